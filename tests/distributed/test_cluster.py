import json
import socket

import pytest

from transfer_tutorial.distributed import check_cluster, read_tf_config

WORKERS = ["10.0.0.1:4000", "10.0.0.2:4000"]


@pytest.fixture
def set_config(monkeypatch):
    def set_config(cluster, type="worker", index=0):
        config = {"cluster": cluster, "task": {"type": type, "index": index}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))

    return set_config


def test_each_worker_finds_all_addresses_and_its_place(set_config):
    for index in (0, 1):
        set_config({"worker": WORKERS}, index=index)
        assert read_tf_config() == (WORKERS, index)


def test_a_chief_comes_before_the_workers(set_config):
    cluster = {"worker": WORKERS, "chief": ["10.0.0.3:4000"]}
    set_config(cluster, type="worker", index=1)
    assert read_tf_config() == (["10.0.0.3:4000", *WORKERS], 2)
    set_config(cluster, type="chief")
    assert read_tf_config()[1] == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{'cluster': 1}",
        "[]",
        "3",
        '{"task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": ["a:1"], "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": "x"}}',
        '{"cluster": {"worker": 4000}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
    ],
)
def test_what_has_not_the_form_is_shown_beside_the_form(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="`TF_CONFIG` must be JSON such as") as e:
        read_tf_config()
    assert f"Received: {text!r}" in str(e.value)


def test_a_missing_variable_is_told(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="`TF_CONFIG` must be JSON.* Received: ''"):
        check_cluster()


@pytest.mark.parametrize(
    "cluster",
    [{"worker": WORKERS, "ps": ["a:1"]}, {"chief": ["a:1", "b:1"], "worker": WORKERS}],
)
def test_jobs_that_this_training_does_not_know_are_refused(set_config, cluster):
    set_config(cluster)
    with pytest.raises(ValueError, match="workers, and at most one chief.* Received"):
        read_tf_config()


@pytest.mark.parametrize(
    "address", ["10.0.0.2", "10.0.0.2:", ":4000", "10.0.0.2:0", "a:65536", "a:x", 4000]
)
def test_an_address_without_a_port_is_refused(set_config, address):
    set_config({"worker": ["10.0.0.1:4000", address]})
    with pytest.raises(ValueError, match='each address as "host:port".* Received') as e:
        read_tf_config()
    assert json.dumps(address) in str(e.value)


def test_an_address_given_twice_is_refused(set_config):
    set_config({"worker": ["a:1", "b:1", "a:1"]})
    with pytest.raises(ValueError, match="an address of its own.* Received: .*a:1"):
        read_tf_config()


@pytest.mark.parametrize(
    ("type", "index"), [("worker", 2), ("worker", -1), ("chief", 0), ("evaluator", 0)]
)
def test_a_task_outside_the_cluster_is_refused(set_config, type, index):
    set_config({"worker": WORKERS}, type, index)
    received = f'"type": "{type}", "index": {index}'
    with pytest.raises(
        ValueError, match=f"a task of its cluster.* Received.*{received}"
    ):
        read_tf_config()


def test_a_port_in_use_is_refused_and_a_free_one_is_left_free(set_config):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        set_config({"worker": [f"127.0.0.1:{port}", "127.0.0.1:1"]})
        with pytest.raises(OSError, match=f"`TF_CONFIG` .* free.*127.0.0.1:{port}"):
            check_cluster()
    check_cluster()
    check_cluster()


def test_the_port_of_another_worker_may_be_in_use(set_config):
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_server(("127.0.0.1", 0)) as reserved,
    ):
        free = reserved.getsockname()[1]
        reserved.close()
        used = server.getsockname()[1]
        set_config({"worker": [f"127.0.0.1:{used}", f"127.0.0.1:{free}"]}, index=1)
        check_cluster()
