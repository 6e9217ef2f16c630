"""Ways to do the same thing, measured in turns."""

import numpy as np

# Of the rows below, for `report.print_table`.
COLUMNS = {
    "group": "",
    "way": "",
    "rounds": "d",
    "speed_ratio": ".2f",
    "slowest_round": ".2f",
    "fastest_round": ".2f",
    "cpu_ratio": ".2f",
    "result": ".4f",
}


def compare_in_rounds(group, results, rounds, measure):
    """One row for each way of a group; the first is the default.

    `results` maps a way to what came out of it, in a run before that was not timed;
    `measure(way)` does it once and returns `(seconds, processor seconds)`. Every other
    round goes backwards.
    """
    took = {way: [] for way in results}
    for number in range(rounds):
        for way in list(results)[:: -1 if number % 2 else 1]:
            took[way].append(measure(way))
    default = np.array(took[next(iter(results))])
    rows = []
    for way, result in results.items():
        ratios, cpu_ratios = (default / np.array(took[way])).T
        rows.append(
            {
                "group": group,
                "way": way,
                "rounds": rounds,
                "speed_ratio": float(np.median(ratios)),
                "slowest_round": float(ratios.min()),
                "fastest_round": float(ratios.max()),
                "cpu_ratio": float(np.median(cpu_ratios)),
                "result": float(result),
            }
        )
    return rows
