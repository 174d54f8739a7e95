// @ts-check
// A mask on its way to Python and back, row by row, deflated: a bit for each pixel, or a byte where some are grey.

/** Whether no pixel is grey. */
export const isHard = (data) => data.every((value) => value === 0 || value === 255);

/** The levels 0..255 of a mask as bits, as numpy.packbits has them, or, of a soft mask, as they are. */
export function pack(data) {
  const size = Math.ceil(data.length / 8);
  if (size < data.length && !isHard(data)) return data.slice();
  const bits = new Uint8Array(size);
  for (let i = 0; i < data.length; i++) if (data[i] > 127) bits[i >> 3] |= 0x80 >> (i & 7);
  return bits;
}

/** Whether two packed masks are one. */
export const equal = (one, other) => one.length === other.length && one.every((byte, i) => byte === other[i]);

export function unpack(bits, data) {
  if (bits.length > Math.ceil(data.length / 8)) data.set(bits);
  else for (let i = 0; i < data.length; i++) data[i] = 255 * ((bits[i >> 3] >> (7 - (i & 7))) & 1);
}

const through = async (bytes, stream) =>
  new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());

export const deflate = (bits) => through(bits, new CompressionStream("deflate"));
export const inflate = (bytes) => through(bytes, new DecompressionStream("deflate"));
