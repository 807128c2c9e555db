package dev.sluice.corpus;

import java.io.Reader;

/// One text of a corpus. The name says where it came from, as in `books.jsonl:17`; the text can be
/// read once, before the next document is asked for.
public record Document(String name, Reader text) {}
