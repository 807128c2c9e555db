/// Text ↔ token ids. Two kinds only: bytes, which need no file, and any Hugging Face
/// `tokenizer.json` through the library that defines the format. Start reading at [Tokenizer].
///
/// That library ends its process when it breaks down on a file or a text, so it has a process of
/// its own: [LibraryProcess] starts it, [LibraryMain] runs in it.
///
/// Ids are never negative and always below [Tokenizer#vocabularySize()]. Encoding adds nothing: no
/// marker at the start, no padding, no truncation. Whoever needs a document separator appends
/// [Tokenizer#endOfText()], which [EndToken] finds.
package dev.sluice.tokenizer;
