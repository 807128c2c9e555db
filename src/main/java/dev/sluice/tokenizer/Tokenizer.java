package dev.sluice.tokenizer;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.OptionalInt;

/// Text to token ids and back. Implementations are immutable and may be shared between threads.
public interface Tokenizer {
  /// One more than the highest id, added tokens included.
  int vocabularySize();

  /// The ids of the text and nothing else: no marker at either end, never cut, never padded. A
  /// special token that the text spells out becomes that token, as chat templates need it.
  int[] encode(String text);

  /// The ids of the text between those that the tokenizer's own template puts at its ends, such as
  /// a start token; the same as [#encode] where it has none.
  default int[] encodeFramed(String text) {
    return encode(text);
  }

  /// The ids that the tokenizer's own template puts before every text, such as a start token; none
  /// where it puts nothing there.
  default int[] beforeTexts() {
    int[] plain = encode("a");
    int[] framed = encodeFramed("a");
    for (int before = 0; before + plain.length <= framed.length; before++) {
      if (Arrays.equals(plain, Arrays.copyOfRange(framed, before, before + plain.length))) {
        return Arrays.copyOf(framed, before);
      }
    }
    return new int[0];
  }

  /// The tokens that steer a model and have no text, by what spells them out, such as `<|im_end|>`.
  default Map<String, Integer> controlTokens() {
    return Map.of();
  }

  /// The ids of a text in which those are text like any other.
  ///
  /// @throws InvalidInputException if the vocabulary cannot write it so
  default int[] encodeAsText(String text) {
    return encode(text);
  }

  /// The id of the token that begins a text, where the tokenizer's files name one. Whether it is
  /// put before texts is another question, which [#encodeFramed] answers.
  default OptionalInt beginOfText() {
    return OptionalInt.empty();
  }

  /// The text of the ids. Bytes that are no UTF-8 become U+FFFD; special tokens have no text.
  String decode(int[] ids);

  /// The bytes that each token stands for in any text, by id; none for special tokens and for
  /// others beside the vocabulary, which mark something.
  ///
  /// @throws InvalidInputException if tokens have no bytes of their own, but text that depends on
  ///   their neighbours
  default byte[][] tokenBytes() {
    throw new InvalidInputException(
        "the bytes of single tokens are not known of the tokenizer %s; use a byte-level one"
            .formatted(describe()));
  }

  /// The id put after each document.
  ///
  /// @throws InvalidInputException if the tokenizer's files name none; the message says how to
  ///   choose one
  int endOfText();

  /// Whether [#endOfText] gives an id.
  default boolean knowsEndOfText() {
    return true;
  }

  /// Equal for two tokenizers exactly when they give the same ids and end documents alike: `bytes`,
  /// or the SHA-256 of `tokenizer.json`, with `:eos=ID` where the end token is another than that
  /// file alone suggests.
  String fingerprint();

  /// For people: what this is and where it came from.
  String describe();

  /// Writes the files from which [Tokenizers#load] gives this tokenizer again, and `transformers`
  /// one with the same ids that stops at the same token: `tokenizer.json`, `tokenizer_config.json`
  /// and, where [#endOfText] is known, `generation_config.json`.
  ///
  /// @param directory that is there
  void write(Path directory) throws IOException;

  /// How many bytes of UTF-8 text `ids[from … to)` stand for; the ids around them are context. What
  /// ends a document has no bytes.
  ///
  /// A token may end within a character, and some decoders treat the first token of a text
  /// differently. So both borders move to the next token that starts a character, and the token
  /// before is decoded along and subtracted, where it belongs to the same document. Neighbouring
  /// ranges therefore add up exactly.
  default int bytesOf(int[] ids, int from, int to) {
    int bytes = 0;
    int begin = 0; // of a document
    for (int end = 0; end <= ids.length; end++) {
      if (end == ids.length || (knowsEndOfText() && ids[end] == endOfText())) {
        int first = Math.max(from, begin);
        int last = Math.min(to, end);
        if (first < last) {
          bytes += bytesWithin(Arrays.copyOfRange(ids, begin, end), first - begin, last - begin);
        }
        begin = end + 1;
      }
    }
    return bytes;
  }

  /// The same within one document.
  private int bytesWithin(int[] ids, int from, int to) {
    int start = characterStart(ids, from);
    int end = characterStart(ids, to);
    int context = Math.max(0, start - 1);
    return utf8Length(ids, context, end) - utf8Length(ids, context, start);
  }

  private int characterStart(int[] ids, int position) {
    // A character has at most four bytes, so one of four neighbouring tokens starts one.
    for (int i = position; i < Math.min(position + 4, ids.length); i++) {
      String text = decode(Arrays.copyOfRange(ids, i, Math.min(i + 4, ids.length)));
      if (!text.startsWith("\uFFFD")) {
        return i;
      }
    }
    return position;
  }

  private int utf8Length(int[] ids, int from, int to) {
    if (from >= to) {
      return 0;
    }
    return decode(Arrays.copyOfRange(ids, from, to)).getBytes(StandardCharsets.UTF_8).length;
  }
}
