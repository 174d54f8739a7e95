// @ts-check
// CLIP's byte-pair encoding, as the tokenizers library computes it from tokenizer.json.

const WORDS = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+/gu;
const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

/** The character that stands for each byte: itself where it can be seen, else one from U+0100 on. */
const BYTES = (() => {
  let hidden = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(
    (byte > 32 && byte < 127) || (byte > 160 && byte !== 173) ? byte : hidden++));
})();

/** A regular expression of the tokenizers library; its \\s knows what Unicode calls white space. */
const expression = (text) => new RegExp(text.replaceAll("\\s", "\\p{White_Space}"), "gu");

/** Letter by letter: no letter's lower case depends on its neighbours. */
const lower = (text) => [...text].map((letter) => letter.toLowerCase()).join("");

/** One of the tokenizer's normalizers as a function of a text. */
function normalizer({ type, pattern, content }) {
  if (type === "Lowercase") return lower;
  if (type !== "Replace") return (text) => text.normalize(type);  // NFC, NFKD …
  const found = pattern.Regex === undefined ? pattern.String : expression(pattern.Regex);
  return (text) => text.replaceAll(found, () => content);
}

/**
 * @param {any} tables what models.json has of the tokenizer
 * @returns {(prompt: string) => { ids: number[], cut: number }} ids as long as the text encoder takes; how many were cut
 */
export function newTokenizer({ vocabulary, merges, suffix, fuses, normalizers, special, pattern, length, begin, end, pad, unknown }) {
  const ranks = new Map(merges.map(([one, other], rank) => [`${one} ${other}`, rank]));
  const specials = new RegExp(`(${Object.keys(special).map(escaped).join("|")})`);
  const pieces = expression(pattern), steps = normalizers.map(normalizer);

  function encodeWord(word) {
    const letters = [...new TextEncoder().encode(word)].map((byte) => BYTES[byte]);
    const parts = letters.map((letter, i) => (i === letters.length - 1 ? letter + suffix : letter));
    for (;;) {
      let best = Infinity, at = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
        if (rank < best) [best, at] = [rank, i];
      }
      if (at < 0) break;
      parts.splice(at, 2, parts[at] + parts[at + 1]);
    }
    const ids = parts.map((part) => vocabulary[part] ?? unknown);
    return fuses ? ids.filter((id, i) => id !== unknown || ids[i - 1] !== unknown) : ids;
  }

  function encode(text) {
    const plain = steps.reduce((done, step) => step(done), text);
    return (plain.match(pieces) ?? []).flatMap((piece) => (piece.match(WORDS) ?? []).flatMap(encodeWord));
  }

  return (prompt) => {
    const found = prompt.split(specials).flatMap((part) => (Object.hasOwn(special, part) ? [special[part]] : encode(part)));
    const ids = [begin, ...found.slice(0, length - 2), end];
    return { ids: [...ids, ...Array(length - ids.length).fill(pad)], cut: Math.max(0, found.length + 2 - length) };
  };
}
