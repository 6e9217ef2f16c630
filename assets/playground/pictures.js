// Pictures as the backbone takes them, 32 x 32 x 3 in 0...255, from files, canvas and
// camera; and how the page shows them.
"use strict";

(function (playground) {
  const SIDE = 32;
  const MAX_MEGAPIXELS = 40;
  const MAX_MEGABYTES = 30;

  // An element with attributes ("onclick" and the like take a function) and children.
  function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") node[name] = value;
      else if (typeof value === "boolean") node.toggleAttribute(name, value);
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  // The largest square in the middle of an image, canvas or video, made 32 x 32.
  async function crop(source, width, height) {
    const side = Math.min(width, height);
    const square = [Math.floor((width - side) / 2), Math.floor((height - side) / 2), side, side];
    const context = element("canvas", { width: SIDE, height: SIDE }).getContext("2d");
    context.fillStyle = "white"; // behind what is transparent
    context.fillRect(0, 0, SIDE, SIDE);
    context.imageSmoothingQuality = "high";
    const options = { resizeWidth: SIDE, resizeHeight: SIDE, resizeQuality: "high" };
    const small = await createImageBitmap(source, ...square, options).catch(() => null);
    if (small) context.drawImage(small, 0, 0, SIDE, SIDE);
    else context.drawImage(source, ...square, 0, 0, SIDE, SIDE); // no resizing in this browser
    small?.close();
    return dropAlpha(context.getImageData(0, 0, SIDE, SIDE).data);
  }

  function dropAlpha(rgba) {
    const pixels = new Uint8Array((rgba.length / 4) * 3);
    for (let i = 0; i < rgba.length / 4; i++) pixels.set(rgba.subarray(4 * i, 4 * i + 3), 3 * i);
    return pixels;
  }

  // A file that the reader chose -> its pixels. An error's message is for the reader.
  async function readPicture(file) {
    if (file.size > MAX_MEGABYTES * 1e6) {
      throw new Error(`${file.name} is larger than ${MAX_MEGABYTES} megabytes: make it smaller first.`);
    }
    const address = URL.createObjectURL(file);
    try {
      const image = element("img");
      const loaded = new Promise((resolve, reject) => {
        image.onload = resolve;
        image.onerror = () => reject(new Error(`${file.name} is not a picture that this browser can read.`));
      });
      image.src = address;
      await loaded; // its size is known, nothing is unpacked yet
      const { naturalWidth: width, naturalHeight: height } = image;
      if (width * height > MAX_MEGAPIXELS * 1e6) {
        const size = Math.round((width * height) / 1e6);
        throw new Error(
          `${file.name} has ${size} megapixels, and the limit is ${MAX_MEGAPIXELS}: make it smaller first.`,
        );
      }
      if (width * height === 0) throw new Error(`${file.name} is not a picture that this browser can read.`);
      return await crop(image, width, height);
    } finally {
      URL.revokeObjectURL(address);
    }
  }

  // Pixels on a canvas of 32 x 32; the style sheet makes it larger.
  function drawPixels(pixels, canvas) {
    const context = canvas.getContext("2d");
    const image = context.createImageData(SIDE, SIDE);
    for (let i = 0; i < SIDE * SIDE; i++) {
      image.data.set(pixels.subarray(3 * i, 3 * i + 3), 4 * i);
      image.data[4 * i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  function makeThumbnail(pixels) {
    return drawPixels(pixels, element("canvas", { width: SIDE, height: SIDE, "aria-hidden": "true" }));
  }

  function wipe(canvas) {
    const context = canvas.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, canvas.width, canvas.height);
  }

  // Let mouse, pen and finger draw; `onChange` is called after every stroke's part.
  function makeDrawable(canvas, { getColor, getWidth, onChange }) {
    const context = canvas.getContext("2d", { willReadFrequently: true });
    wipe(canvas);
    let last = null;
    const locate = (event) => {
      const box = canvas.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * canvas.width;
      return [x, ((event.clientY - box.top) / box.height) * canvas.height];
    };
    const drawTo = (point) => {
      Object.assign(context, { lineCap: "round", strokeStyle: getColor(), lineWidth: getWidth() });
      context.beginPath();
      context.moveTo(...last);
      context.lineTo(...point);
      context.stroke();
      last = point;
      onChange();
    };
    canvas.onpointerdown = (event) => {
      canvas.setPointerCapture(event.pointerId);
      last = locate(event);
      drawTo(last);
    };
    canvas.onpointermove = (event) => last && drawTo(locate(event));
    canvas.onpointerup = canvas.onpointercancel = () => (last = null);
  }

  // Show the camera in `video`. An error's message is for the reader.
  async function startCamera(video) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("This browser gives the page no camera. Draw, upload, or take bundled pictures.");
    }
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
      await video.play();
    } catch (error) {
      const reason = error.name === "NotAllowedError" ? "The camera was refused." : "No camera was found.";
      throw new Error(`${reason} Draw, upload, or take bundled pictures.`);
    }
  }

  function stopCamera(video) {
    video.srcObject?.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  }

  Object.assign(playground, { element, crop, readPicture, drawPixels, makeThumbnail });
  Object.assign(playground, { wipe, makeDrawable, startCamera, stopCamera });
})(window.playground);
