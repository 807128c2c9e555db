/// Text ↔ token ids. Two kinds only: bytes, which need no file, and any Hugging Face
/// `tokenizer.json` through the library that defines the format. Start reading at [Tokenizer].
///
/// Ids are never negative and always below [Tokenizer#vocabularySize()]. Encoding adds nothing: no
/// marker at the start, no padding, no truncation. Whoever needs a document separator appends
/// [Tokenizer#endOfText()].
package dev.sluice.tokenizer;
