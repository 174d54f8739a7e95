// @ts-check
// PNG with one bit a pixel. `rows` are its scan lines, each led by the filter byte 0.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const IDAT = 0x49444154;

export function toRows({ width, height, data }) {
  const stride = Math.ceil(width / 8) + 1, rows = new Uint8Array(stride * height);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) if (data[i]) rows[y * stride + 1 + (x >> 3)] |= 0x80 >> (x & 7);
  }
  return rows;
}

export function fromRows({ width, height, data }, rows) {
  const stride = Math.ceil(width / 8) + 1;
  for (let y = 0, i = 0; y < height; y++) {
    if (rows[y * stride]) throw new Error("MaskPainter: this PNG was not written by MaskPainter; set .mask instead");
    for (let x = 0; x < width; x++, i++) data[i] = (rows[y * stride + 1 + (x >> 3)] >> (7 - (x & 7))) & 1;
  }
}

const through = async (parts, stream) =>
  new Uint8Array(await new Response(new Blob(parts).stream().pipeThrough(stream)).arrayBuffer());

function chunk(type, data) {
  const bytes = new Uint8Array(data.length + 12), view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  for (let i = 0; i < 4; i++) bytes[4 + i] = type.charCodeAt(i);
  bytes.set(data, 8);
  let crc = -1;
  for (let i = 4; i < bytes.length - 4; i++) {
    crc ^= bytes[i];
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  view.setInt32(bytes.length - 4, ~crc);
  return bytes;
}

export async function encodePNG(rows, width, height) {
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 1);  // one bit, greyscale
  const data = await through([rows], new CompressionStream("deflate"));
  const chunks = [chunk("IHDR", new Uint8Array(header.buffer)), chunk("IDAT", data), chunk("IEND", [])];
  return new Uint8Array(await new Blob([new Uint8Array(SIGNATURE), ...chunks]).arrayBuffer());
}

export async function decodePNG({ buffer, byteOffset, byteLength }) {
  const view = new DataView(buffer, byteOffset, byteLength), data = [];
  for (let at = 8; at < byteLength; at += view.getUint32(at) + 12) {
    if (view.getUint32(at + 4) === IDAT) data.push(new Uint8Array(buffer, byteOffset + at + 8, view.getUint32(at)));
  }
  return through(data, new DecompressionStream("deflate"));
}
