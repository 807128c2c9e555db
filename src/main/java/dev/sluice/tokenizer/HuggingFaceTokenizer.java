package dev.sluice.tokenizer;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.Sha256;
import java.io.IOException;
import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalInt;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/// A `tokenizer.json`, read by the Rust library that defines the format.
///
/// The library runs in a process of its own ([LibraryProcess]), which takes one request at a time:
/// a file or a text that it breaks down on is an error like any other. The process ends when
/// nothing refers to the tokenizer any more, and with this one.
public final class HuggingFaceTokenizer implements Tokenizer, AutoCloseable {
  private static final Cleaner CLEANER = Cleaner.create();
  private static final int SHOWN = 40;

  private final Path file;
  private final int vocabularySize;
  private final EndToken end;
  private final OptionalInt begin;

  /// What a fingerprint has behind the SHA-256.
  private final String mark;

  private final byte[] json;
  private @Nullable String sha256; // once asked for
  private final TokenizerFolder folder;
  private final Map<String, Integer> controls;
  private final Library library;

  /// Of the same file without its control tokens; its process starts when it is needed.
  private final Library withoutControls;

  /// The process, and what it takes to start another one after a breakdown.
  private static final class Library implements Runnable {
    private final LibraryProcess.Limits limits;
    private final Supplier<byte[]> json;
    private @Nullable LibraryProcess process;

    Library(LibraryProcess.Limits limits, Supplier<byte[]> json, @Nullable LibraryProcess process) {
      this.limits = limits;
      this.json = json;
      this.process = process;
    }

    synchronized byte[] ask(byte wanted, byte[] request) throws LibraryProcess.Failure {
      var asked = process;
      if (asked == null || !asked.isAlive()) {
        run();
        asked = LibraryProcess.start(limits);
        process = asked;
        var _ = asked.ask(LibraryMain.LOAD, json.get());
      }
      return asked.ask(wanted, request);
    }

    /// Ends the process.
    @Override
    public synchronized void run() {
      if (process != null) {
        process.close();
        process = null;
      }
    }
  }

  private HuggingFaceTokenizer(
      TokenizerFile file, EndToken end, Library library, Library withoutControls) {
    this.file = file.path();
    this.vocabularySize = file.vocabularySize();
    this.end = end;
    this.begin = begin(file);
    this.json = file.bytes();
    this.mark = end.mark(file);
    this.folder = TokenizerFolder.of(file, end);
    this.controls = new HashMap<>();
    for (String token : file.special()) {
      controls.put(token, Objects.requireNonNull(file.idOfToken().get(token)));
    }
    this.library = library;
    this.withoutControls = withoutControls;
    CLEANER.register(this, library);
    CLEANER.register(this, withoutControls);
  }

  /// The first of the files beside that names a `bos_token` decides.
  private static OptionalInt begin(TokenizerFile file) {
    for (String name : EndToken.BY_TEXT) {
      String token = TokenizerFile.content(file.beside(name).path("bos_token"));
      if (token != null) {
        Integer id = file.idOfToken().get(token);
        return id == null ? OptionalInt.empty() : OptionalInt.of(id);
      }
    }
    return OptionalInt.empty();
  }

  /// Loads a file.
  ///
  /// @param reading reads and checks it, and gives the library its content as soon as the library
  ///   may see it
  /// @param ending finds the token that ends documents
  static HuggingFaceTokenizer load(
      Function<Consumer<byte[]>, TokenizerFile> reading, Function<TokenizerFile, EndToken> ending) {
    var process = LibraryProcess.start(LibraryProcess.Limits.USUAL); // while the file is read
    try {
      var file = reading.apply(json -> process.give(LibraryMain.LOAD, json));
      return loaded(file, ending.apply(file), LibraryProcess.Limits.USUAL, process);
    } catch (RuntimeException | Error e) {
      process.close();
      throw e;
    }
  }

  /// Loads a file into a process that runs.
  static HuggingFaceTokenizer load(
      TokenizerFile file, EndToken end, LibraryProcess.Limits limits, LibraryProcess process) {
    process.give(LibraryMain.LOAD, file.bytes());
    return loaded(file, end, limits, process);
  }

  private static HuggingFaceTokenizer loaded(
      TokenizerFile file, EndToken end, LibraryProcess.Limits limits, LibraryProcess process) {
    try {
      var _ = process.answer();
    } catch (LibraryProcess.Failure e) {
      throw e.ended()
          ? new InvalidInputException(
              "%s is not a usable Hugging Face tokenizer: on reading it %s; %s"
                  .formatted(file.path(), e.words(), TokenizerFile.WAY_OUT),
              e)
          : file.refused(e.words());
    }
    Path path = file.path(); // the rest of the file's facts need not be kept
    byte[] json = file.bytes();
    return new HuggingFaceTokenizer(
        file,
        end,
        new Library(limits, () -> json, process),
        new Library(limits, () -> TokenizerFile.withoutSpecial(path, json), null));
  }

  @Override
  public int vocabularySize() {
    return vocabularySize;
  }

  @Override
  public int[] encode(String text) {
    return encode(text, LibraryMain.ENCODE, library);
  }

  @Override
  public int[] encodeFramed(String text) {
    return encode(text, LibraryMain.ENCODE_FRAMED, library);
  }

  @Override
  public Map<String, Integer> controlTokens() {
    return Collections.unmodifiableMap(controls);
  }

  @Override
  public int[] encodeAsText(String text) {
    int[] ids = encode(text);
    if (control(ids) == null) {
      return ids; // as nearly always
    }
    ids = encode(text, LibraryMain.ENCODE, withoutControls);
    String control = control(ids);
    if (control != null) {
      throw new InvalidInputException(
          "%s cannot write the control token %s as text; leave it out of the text that begins with '%s'"
              .formatted(file, TokenizerFile.quoted(control), Printable.brief(text, SHOWN)));
    }
    return ids;
  }

  /// A control token among ids, or null.
  private @Nullable String control(int[] ids) {
    var found = Arrays.stream(ids).boxed().collect(Collectors.toSet());
    return controls.entrySet().stream()
        .filter(entry -> found.contains(entry.getValue()))
        .map(Map.Entry::getKey)
        .findFirst()
        .orElse(null);
  }

  @Override
  public OptionalInt beginOfText() {
    return begin;
  }

  private int[] encode(String text, byte how, Library by) {
    byte[] answer;
    try {
      answer = by.ask(how, utf8(text));
    } catch (LibraryProcess.Failure e) {
      throw new InvalidInputException(
          "%s cannot encode the text that begins with '%s': %s; use another tokenizer.json, or another or a shorter text"
              .formatted(file, Printable.brief(text, SHOWN), e.words()),
          e);
    } finally {
      Reference.reachabilityFence(this);
    }
    int[] ids = new int[answer.length / Integer.BYTES];
    ByteBuffer.wrap(answer).asIntBuffer().get(ids);
    for (int id : ids) {
      if (id < 0 || id >= vocabularySize) {
        throw new InvalidInputException(
            "%s gives the id %s to a part of the text that begins with '%s', but its vocabulary has %d ids; use another tokenizer.json"
                .formatted(
                    file,
                    Integer.toUnsignedString(id),
                    Printable.brief(text, SHOWN),
                    vocabularySize));
      }
    }
    return ids;
  }

  /// The text's bytes; half a surrogate pair, which has none, becomes U+FFFD.
  private static byte[] utf8(String text) {
    String whole = text;
    if (text.codePoints().anyMatch(HuggingFaceTokenizer::isHalf)) {
      int[] codePoints = text.codePoints().map(c -> isHalf(c) ? 0xFFFD : c).toArray();
      whole = new String(codePoints, 0, codePoints.length);
    }
    return whole.getBytes(StandardCharsets.UTF_8);
  }

  private static boolean isHalf(int codePoint) {
    return codePoint >= Character.MIN_SURROGATE && codePoint <= Character.MAX_SURROGATE;
  }

  @Override
  public String decode(int[] ids) {
    var request = ByteBuffer.allocate(ids.length * Integer.BYTES);
    request.asIntBuffer().put(ids);
    try {
      return new String(library.ask(LibraryMain.DECODE, request.array()), StandardCharsets.UTF_8);
    } catch (LibraryProcess.Failure e) {
      throw new InvalidInputException(
          "%s cannot decode the ids %s: %s; use another tokenizer.json"
              .formatted(file, Printable.brief(Arrays.toString(ids), SHOWN), e.words()),
          e);
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  @Override
  public byte[][] tokenBytes() {
    return TokenizerFile.of(file, folder.tokenizer()).tokenBytes();
  }

  @Override
  public int endOfText() {
    return end.require();
  }

  @Override
  public boolean knowsEndOfText() {
    return end.isKnown();
  }

  @Override
  public String fingerprint() {
    return sha256() + mark;
  }

  private synchronized String sha256() {
    if (sha256 == null) {
      sha256 = Sha256.hex(json);
    }
    return sha256;
  }

  @Override
  public String describe() {
    return "%s (%d ids, sha256 %s, %s)"
        .formatted(
            file,
            vocabularySize,
            sha256().substring(0, 12),
            end.isKnown()
                ? "documents end with %s, id %d"
                    .formatted(TokenizerFile.quoted(end.text()), end.id())
                : "no token ends documents");
  }

  @Override
  public void write(Path directory) throws IOException {
    folder.write(directory);
  }

  /// Ends the library's process now; another one is started when it is needed.
  @Override
  public void close() {
    library.run();
    withoutControls.run();
  }
}
