// @ts-check
// A mask on its way to Python and back: a bit for each pixel, row by row, deflated.

/** The 0 and 1 of a mask as bits, as numpy.packbits has them. */
export function pack(data) {
  const bits = new Uint8Array(Math.ceil(data.length / 8));
  for (let i = 0; i < data.length; i++) if (data[i]) bits[i >> 3] |= 0x80 >> (i & 7);
  return bits;
}

export function unpack(bits, data) {
  for (let i = 0; i < data.length; i++) data[i] = (bits[i >> 3] >> (7 - (i & 7))) & 1;
}

const through = async (bytes, stream) =>
  new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());

export const deflate = (bits) => through(bits, new CompressionStream("deflate"));
export const inflate = (bytes) => through(bytes, new DecompressionStream("deflate"));
