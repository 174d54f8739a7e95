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

/**
 * @param {any} tables what models.json has of the tokenizer
 * @returns {(prompt: string) => { ids: number[], cut: number }} ids as long as the text encoder takes; how many were cut
 */
export function newTokenizer({ vocabulary, merges, suffix, special, pattern, length, begin, end, pad, unknown }) {
  const ranks = new Map(merges.map(([one, other], rank) => [`${one} ${other}`, rank]));
  const specials = new RegExp(`(${Object.keys(special).map(escaped).join("|")})`);
  const pieces = new RegExp(pattern.replaceAll("\\s", "\\p{White_Space}"), "gu");

  function encodeWord(word) {
    const letters = [...new TextEncoder().encode(word)].map((byte) => BYTES[byte]);
    let parts = letters.map((letter, i) => (i === letters.length - 1 ? letter + suffix : letter));
    for (;;) {
      let best = Infinity, at = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
        if (rank < best) [best, at] = [rank, i];
      }
      if (at < 0) return parts.map((part) => vocabulary[part] ?? unknown);
      parts.splice(at, 2, parts[at] + parts[at + 1]);
    }
  }

  /** Letter by letter: no letter's lower case depends on its neighbours. */
  const lower = (text) => [...text].map((letter) => letter.toLowerCase()).join("");

  function encode(text) {
    const plain = lower(text.normalize("NFC").replace(/\p{White_Space}+/gu, " "));
    return (plain.match(pieces) ?? []).flatMap((piece) => (piece.match(WORDS) ?? []).flatMap(encodeWord));
  }

  return (prompt) => {
    const found = prompt.split(specials).flatMap((part) => (Object.hasOwn(special, part) ? [special[part]] : encode(part)));
    const ids = [begin, ...found.slice(0, length - 2), end];
    return { ids: [...ids, ...Array(length - ids.length).fill(pad)], cut: Math.max(0, found.length + 2 - length) };
  };
}
