// @ts-check
// Images as RGBA bytes of the models' size. A file of the visitor's is read here and goes nowhere. Everything but `check`
// works in a worker too, where large images are decoded and PNG files are made.

const MOST_BYTES = 40e6, MOST_PIXELS = 32e6;

const contextOf = (size) => /** @type {OffscreenCanvasRenderingContext2D} */ (
  new OffscreenCanvas(size, size).getContext("2d", { willReadFrequently: true }));

/** An image's pixels, cropped to the square in its middle. file: a Blob. */
export async function read(file, size) {
  const image = await createImageBitmap(file), { width, height } = image, side = Math.min(width, height), context = contextOf(size);
  context.fillStyle = "#fff";  // what was transparent
  context.fillRect(0, 0, size, size);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, (width - side) / 2, (height - side) / 2, side, side, 0, 0, size, size);
  image.close();
  return context.getImageData(0, 0, size, size).data;
}

/** The pixels of an image at a URL. */
export const fromURL = async (url, size) => read(await (await fetch(url)).blob(), size);

/** Throws an Error, in words for the page, for a file that is no image, or too large. Nothing is decoded yet. */
export async function check(file) {
  if (file.size > MOST_BYTES) throw new Error(`${file.name} has ${Math.round(file.size / 1e6)} MB; at most ${MOST_BYTES / 1e6} are read. Make it smaller first.`);
  const image = new Image(), url = URL.createObjectURL(file);
  try {
    await new Promise((done, fail) => {
      image.onload = done;
      image.onerror = () => fail(new Error(`${file.name} is no image that this browser can read. Choose a PNG, JPEG or WebP file.`));
      image.src = url;
    });
  } finally {
    URL.revokeObjectURL(url);
  }
  const pixels = image.naturalWidth * image.naturalHeight;
  if (pixels > MOST_PIXELS) throw new Error(`${file.name} has ${Math.round(pixels / 1e6)} megapixels; at most ${MOST_PIXELS / 1e6} are read. Make it smaller first.`);
}

/** A canvas with these pixels. */
export function canvasOf(pixels) {
  const size = Math.sqrt(pixels.length / 4), context = contextOf(size);
  context.putImageData(new ImageData(pixels, size, size), 0, 0);
  return context.canvas;
}

/** Pixels enlarged to `size`, smoothly. */
export function enlarged(pixels, size) {
  const context = contextOf(size);
  context.imageSmoothingQuality = "high";
  context.drawImage(canvasOf(pixels), 0, 0, size, size);
  return context.getImageData(0, 0, size, size).data;
}

export const png = async (pixels) => new Uint8Array(await (await canvasOf(pixels).convertToBlob()).arrayBuffer());
