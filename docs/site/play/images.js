// @ts-check
// Images as RGBA bytes of the models' size. A file of the visitor's is read here and goes nowhere.

const MOST_BYTES = 40e6, MOST_PIXELS = 32e6;

/** An image's pixels, cropped to the square in its middle. */
function cropped(image, width, height, size) {
  const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size }), side = Math.min(width, height);
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  context.fillStyle = "#fff";  // what was transparent
  context.fillRect(0, 0, size, size);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, (width - side) / 2, (height - side) / 2, side, side, 0, 0, size, size);
  return context.getImageData(0, 0, size, size).data;
}

async function opened(url, name) {
  const image = new Image();
  image.src = url;
  await new Promise((done, fail) => {
    image.onload = done;
    image.onerror = () => fail(new Error(`${name} is no image that this browser can read. Choose a PNG, JPEG or WebP file.`));
  });
  return image;
}

/** The pixels of an image at a URL. */
export async function fromURL(url, size) {
  const image = await opened(url, url);
  return cropped(image, image.naturalWidth, image.naturalHeight, size);
}

/** The pixels of a file. Throws an Error, in words for the page, for one that is no image, or too large. */
export async function fromFile(file, size) {
  if (file.size > MOST_BYTES) throw new Error(`${file.name} has ${Math.round(file.size / 1e6)} MB; at most ${MOST_BYTES / 1e6} are read. Make it smaller first.`);
  const url = URL.createObjectURL(file);
  try {
    const image = await opened(url, file.name), pixels = image.naturalWidth * image.naturalHeight;
    if (pixels > MOST_PIXELS) throw new Error(`${file.name} has ${Math.round(pixels / 1e6)} megapixels; at most ${MOST_PIXELS / 1e6} are read. Make it smaller first.`);
    return cropped(image, image.naturalWidth, image.naturalHeight, size);
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** A canvas with these pixels. */
export function canvasOf(pixels, size = Math.sqrt(pixels.length / 4)) {
  const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
  canvas.getContext("2d")?.putImageData(new ImageData(pixels, size, size), 0, 0);
  return canvas;
}

export const png = async (pixels) => new Uint8Array(await /** @type {Blob} */ (await new Promise((done) => {
  canvasOf(pixels).toBlob(done);
})).arrayBuffer());
