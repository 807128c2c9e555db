package dev.sluice.gguf;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.Failures;
import dev.sluice.files.RegularFile;
import dev.sluice.kernel.MachineMemory;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.SequencedMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/// A GGUF file, mapped into memory and read only: one file, or one that was split into parts, of
/// which any may be named. Opening reads headers and no tensor. The segments end with [#close()].
public final class GgufFile implements AutoCloseable {
  /// What the names of such files end with.
  public static final String SUFFIX = ".gguf";

  private static final Pattern PART =
      Pattern.compile("(?<stem>.*)-(?<number>\\d{5})-of-(?<count>\\d{5})\\.gguf", Pattern.DOTALL);

  private static final String NUMBER = "split.no";
  private static final String COUNT = "split.count";
  private static final String TENSORS = "split.tensors.count";

  private final Path path;
  private final Arena arena;
  private final List<Path> files;
  private final GgufMetadata metadata;
  private final SequencedMap<String, GgufTensor> tensors;
  private final List<MemorySegment> headers;
  private final List<String> notes;

  /// Whether a file is named so, in letters of either case.
  public static boolean isNamed(Path path) {
    return String.valueOf(path.getFileName()).toLowerCase(Locale.ROOT).endsWith(SUFFIX);
  }

  private GgufFile(
      Path path,
      Arena arena,
      List<Path> files,
      GgufMetadata metadata,
      SequencedMap<String, GgufTensor> tensors,
      List<MemorySegment> headers,
      List<String> notes) {
    this.path = path;
    this.arena = arena;
    this.files = files;
    this.metadata = metadata;
    this.tensors = tensors;
    this.headers = headers;
    this.notes = notes;
  }

  /// Maps a file, and the other parts where it is one of several, and checks all that their headers
  /// say; a file that is no good is an error that says why.
  @SuppressWarnings("MustBeClosedChecker") // close() closes the arena
  public static GgufFile open(Path path) {
    Arena arena = Arena.ofShared();
    try {
      return open(path, arena);
    } catch (RuntimeException | Error e) {
      arena.close();
      throw e;
    }
  }

  private static GgufFile open(Path path, Arena arena) {
    var named = map(path, arena);
    Long count = named.metadata().whole(COUNT);
    List<Path> files = count == null || count <= 1 ? List.of(path) : parts(path, named, count);
    var first = named;
    SequencedMap<String, GgufTensor> tensors = new LinkedHashMap<>();
    List<MemorySegment> headers = new ArrayList<>();
    List<String> notes = new ArrayList<>();
    for (int i = 0; i < files.size(); i++) {
      Path file = files.get(i);
      var part = file.equals(path) ? named : map(file, arena);
      if (files.size() > 1) {
        requirePart(file, part, i, files.size(), named);
      }
      first = i == 0 ? part : first;
      headers.add(part.header());
      part.tensors()
          .forEach(
              (name, tensor) -> {
                if (tensors.put(name, tensor) != null) {
                  throw new InvalidInputException(
                      "%s holds the tensor '%s', which another part of the model holds too; fetch the parts again"
                          .formatted(file, Printable.brief(name, 80)));
                }
              });
      if (part.trailing() > 0) {
        notes.add(
            "%s has %d bytes behind its last tensor, which are not read"
                .formatted(file, part.trailing()));
      }
    }
    if (files.size() > 1) {
      requireAll(path, first.metadata().whole(TENSORS), tensors.size());
    }
    first.metadata().pass(NUMBER);
    first.metadata().pass(COUNT);
    first.metadata().pass(TENSORS);
    return new GgufFile(path, arena, files, first.metadata(), tensors, headers, notes);
  }

  private static GgufHeader.Parsed map(Path path, Arena arena) {
    RegularFile.require(path, "name a " + SUFFIX + " file");
    try (var channel = FileChannel.open(path, StandardOpenOption.READ)) {
      return GgufHeader.parse(
          path, channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena));
    } catch (IOException e) {
      throw new InvalidInputException(
          path + " cannot be read (" + Failures.words(e) + "); check its permissions and its disk",
          e);
    }
  }

  // ---------------------------------------------------------------- parts

  /// All parts by the name of one.
  private static List<Path> parts(Path path, GgufHeader.Parsed named, long count) {
    Matcher matcher = part(path);
    long number = orNone(named.metadata().whole(NUMBER)) + 1;
    if (matcher == null
        || Long.parseLong(matcher.group("count")) != count
        || Long.parseLong(matcher.group("number")) != number) {
      throw new InvalidInputException(
          "%s is part %d of a model in %d files, and its name does not end with -%05d-of-%05d.gguf; give all parts the names that they had"
              .formatted(path, number, count, number, count));
    }
    List<Path> parts = new ArrayList<>();
    for (int i = 1; i <= count; i++) {
      Path file =
          path.resolveSibling(
              String.format(Locale.ROOT, "%s-%05d-of-%05d.gguf", matcher.group("stem"), i, count));
      if (Files.notExists(file)) {
        throw new InvalidInputException(
            "%s is missing, part %d of a model in %d files; fetch it too"
                .formatted(file, i, count));
      }
      parts.add(i == number ? path : file);
    }
    return parts;
  }

  private static @Nullable Matcher part(Path path) {
    Matcher matcher = PART.matcher(String.valueOf(path.getFileName()));
    return matcher.matches() ? matcher : null;
  }

  private static long orNone(@Nullable Long number) {
    return number == null ? -1 : number;
  }

  private static void requirePart(
      Path file, GgufHeader.Parsed part, int i, int count, GgufHeader.Parsed named) {
    long number = orNone(part.metadata().whole(NUMBER));
    long of = orNone(part.metadata().whole(COUNT));
    long tensors = orNone(part.metadata().whole(TENSORS));
    if (number != i || of != count || tensors != orNone(named.metadata().whole(TENSORS))) {
      throw new InvalidInputException(
          "%s says that it is part %d of %d of a model of %d tensors, which the other parts do not belong to; fetch all parts again"
              .formatted(file, number + 1, of, tensors));
    }
  }

  private static void requireAll(Path path, @Nullable Long said, int found) {
    if (said != null && said != found) {
      throw new InvalidInputException(
          "the parts of %s hold %d tensors where they say %d; fetch all parts again"
              .formatted(path, found, said));
    }
  }

  /// Whether a file's name says that it is a part other than the first.
  public static boolean isLaterPart(Path path) {
    Matcher matcher = part(path);
    return matcher != null && Integer.parseInt(matcher.group("number")) > 1;
  }

  // ---------------------------------------------------------------- what it holds

  /// The file that was named.
  public Path path() {
    return path;
  }

  /// All files, in order.
  public List<Path> files() {
    return List.copyOf(files);
  }

  /// What was found and not read, in sentences for the user.
  public List<String> notes() {
    return List.copyOf(notes);
  }

  /// The metadata of the first part.
  public GgufMetadata metadata() {
    return metadata;
  }

  /// All tensors by their names, in the order of the files.
  public SequencedMap<String, GgufTensor> tensors() {
    return Collections.unmodifiableSequencedMap(tensors);
  }

  /// Lets the system take the pages back that the metadata stand in, as a vocabulary is megabytes;
  /// what is asked for later is read again.
  public void forgetMetadata() {
    headers.forEach(MachineMemory::forget);
  }

  /// Unmaps the files; a segment of them that is still in use elsewhere fails from here on.
  @Override
  public void close() {
    if (arena.scope().isAlive()) {
      arena.close();
    }
  }
}
