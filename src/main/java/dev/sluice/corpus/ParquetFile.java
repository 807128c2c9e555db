package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import dev.sluice.files.RegularFile;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/// A Parquet file with what its footer says of one column of strings. Numbers of fields, types and
/// codecs are those of `parquet.thrift`.
final class ParquetFile implements AutoCloseable {
  private static final String MAGIC = "PAR1";
  private static final String ENCRYPTED_MAGIC = "PARE";
  private static final int LONGEST_FOOTER = 1 << 28;
  private static final int DEEPEST = 60;

  private static final int BYTE_ARRAY = 6;
  private static final List<String> TYPES =
      List.of(
          "truth values",
          "INT32",
          "INT64",
          "INT96",
          "FLOAT",
          "DOUBLE",
          "BYTE_ARRAY",
          "FIXED_LEN_BYTE_ARRAY");

  private static final int OPTIONAL = 1;
  private static final int REPEATED = 2;

  /// A column, or a field of a struct that is one.
  ///
  /// @param path the names from the outermost in
  /// @param foreign what it holds if that is not strings
  /// @param number what it holds if that is numbers or truth values
  /// @param definitions the level of a value that is there
  /// @param repetitions above 0 in lists
  /// @param repeatedAt where in the path the list's repeated part stands, −1 where there is none
  /// @param repeatedDefinitions the level of an element of a list that is there, or null
  record Leaf(
      List<String> path,
      @Nullable String foreign,
      @Nullable Primitive number,
      int definitions,
      int repetitions,
      int repeatedAt,
      int repeatedDefinitions) {
    String dotted() {
      return String.join(".", path);
    }

    /// Whether it lies in the struct or list of that name.
    boolean isWithin(String group) {
      return IntStream.range(1, path.size())
          .anyMatch(i -> String.join(".", path.subList(0, i)).equals(group));
    }
  }

  /// Numbers and truth values as they are stored.
  enum Primitive {
    TRUTH(0, 0),
    INT32(1, 4),
    INT64(2, 8),
    FLOAT(4, 4),
    DOUBLE(5, 8);

    private final int type;

    /// Of each; 0 for a bit.
    final int bytes;

    Primitive(int type, int bytes) {
      this.type = type;
      this.bytes = bytes;
    }

    /// @param converted the older way to say what it means, −1 for nothing
    /// @param logical the newer, 0 for nothing
    static @Nullable Primitive of(long type, int converted, int logical) {
      boolean plain = converted < 0 || (converted >= 11 && converted <= 18); // integers
      for (var each : values()) {
        if (each.type == type && plain && (logical == 0 || logical == 10)) {
          return each;
        }
      }
      return null;
    }
  }

  /// The column's part in a row group.
  ///
  /// @param rows of the group
  /// @param codec that compresses its pages
  /// @param start where it is
  /// @param end and ends
  record Chunk(long rows, int codec, long start, long end) {}

  /// What an element of the schema is.
  ///
  /// @param children of a struct or list, 0 of a column
  private record Element(
      String name,
      int repetition,
      int children,
      @Nullable String foreign,
      @Nullable Primitive number) {}

  private final FileChannel channel;
  private final String name;
  private final List<Chunk> chunks = new ArrayList<>();
  private @Nullable Leaf column;
  private int columnIndex;
  private List<Leaf> leaves = List.of();

  /// Opens a file for its footer, or for a column of any kind.
  ///
  /// @param index of the column among [#leaves]
  ParquetFile(Path path, String name, int index) throws IOException {
    RegularFile.require(path, "give a .parquet file");
    this.name = name;
    this.channel = FileChannel.open(path, StandardOpenOption.READ);
    try {
      readFooter(
          new ThriftReader(footer()),
          all -> {
            column = all.isEmpty() ? null : all.get(index);
            columnIndex = index;
          });
    } catch (IOException | RuntimeException | Error e) {
      channel.close();
      throw e;
    }
  }

  /// @param name of the file for messages
  /// @param column the column's name, or a path with dots into a struct
  /// @throws IOException if it cannot be read, or is damaged
  ParquetFile(Path path, String name, String column) throws IOException {
    RegularFile.require(path, "give a .parquet file");
    this.name = name;
    this.channel = FileChannel.open(path, StandardOpenOption.READ);
    try {
      readFooter(new ThriftReader(footer()), leaves -> find(leaves, column));
    } catch (IOException | RuntimeException | Error e) {
      channel.close();
      throw e;
    }
  }

  private ByteBuffer footer() throws IOException {
    int end = Integer.BYTES + MAGIC.length();
    long size = channel.size();
    if (size < MAGIC.length() + end) {
      throw new IOException("it has only %d bytes".formatted(size));
    }
    String first = text(read(0, MAGIC.length()));
    ByteBuffer last = read(size - end, end);
    long length = Integer.toUnsignedLong(last.getInt());
    String lastMagic = text(last);
    if (first.equals(ENCRYPTED_MAGIC) || lastMagic.equals(ENCRYPTED_MAGIC)) {
      throw encrypted();
    }
    if (!first.equals(MAGIC)) {
      throw new IOException("it does not begin with " + MAGIC);
    }
    if (!lastMagic.equals(MAGIC)) {
      throw new IOException("it begins with PAR1 and does not end with it, so a part is missing");
    }
    if (length > size - end - MAGIC.length()) {
      throw new IOException("its footer claims %d bytes, more than there are".formatted(length));
    }
    if (length > LONGEST_FOOTER) {
      throw new InvalidInputException(
          "%s has a footer of %d bytes, more than the %d that Sluice reads; write it with larger row groups, or as several files"
              .formatted(name, length, LONGEST_FOOTER));
    }
    return read(size - end - length, (int) length);
  }

  private static String text(ByteBuffer bytes) {
    return StandardCharsets.ISO_8859_1.decode(bytes).toString();
  }

  private InvalidInputException encrypted() {
    return new InvalidInputException(
        name + " is encrypted, which Sluice does not read; write it again without encryption");
  }

  /// Reads bytes of the file; their order is little-endian.
  ByteBuffer read(long from, int length) throws IOException {
    if (from < 0 || length < 0 || from > channel.size() - length) {
      throw new IOException("a part of it would lie outside of it");
    }
    var bytes = ByteBuffer.allocate(length).order(ByteOrder.LITTLE_ENDIAN);
    while (bytes.hasRemaining()) {
      if (channel.read(bytes, from + bytes.position()) < 0) {
        throw new IOException("it became shorter while it was read");
      }
    }
    return bytes.flip();
  }

  private void readFooter(ThriftReader in, Consumer<List<Leaf>> choose) throws IOException {
    in.begin();
    while (in.next()) {
      switch (in.field()) {
        case 2 -> {
          leaves = schema(in);
          choose.accept(leaves);
        }
        case 4 -> {
          for (int groups = in.list(); groups > 0; groups--) {
            readRowGroup(in);
          }
        }
        case 8 -> throw encrypted();
        default -> in.skip();
      }
    }
  }

  private static List<Leaf> schema(ThriftReader in) throws IOException {
    List<Element> elements = new ArrayList<>();
    for (int size = in.list(); size > 0; size--) {
      elements.add(element(in));
    }
    List<Leaf> leaves = new ArrayList<>();
    if (elements.isEmpty()) {
      throw new IOException("it has no schema");
    }
    int end = 1;
    for (int child = 0; child < elements.getFirst().children(); child++) {
      end = leaves(elements, end, List.of(), new Levels(0, 0, -1, 0), leaves);
    }
    return leaves;
  }

  /// As in [Leaf], of the groups around an element.
  private record Levels(int definitions, int repetitions, int repeatedAt, int repeatedDefinitions) {
    Levels within(Element element, int depth) {
      boolean repeated = element.repetition() == REPEATED;
      int defined = definitions + (element.repetition() == OPTIONAL || repeated ? 1 : 0);
      return new Levels(
          defined,
          repetitions + (repeated ? 1 : 0),
          repeated ? depth : repeatedAt,
          repeated ? defined : repeatedDefinitions);
    }
  }

  /// Adds the columns of the element at `index` and gives the index of the element behind them.
  private static int leaves(
      List<Element> elements, int index, List<String> around, Levels outer, List<Leaf> leaves)
      throws IOException {
    if (index >= elements.size() || around.size() > DEEPEST) {
      throw new IOException("its schema contradicts itself");
    }
    var element = elements.get(index);
    var path = Stream.concat(around.stream(), Stream.of(element.name())).toList();
    var levels = outer.within(element, around.size());
    if (element.children() == 0) {
      leaves.add(
          new Leaf(
              path,
              element.foreign(),
              element.number(),
              levels.definitions(),
              levels.repetitions(),
              levels.repeatedAt(),
              levels.repeatedDefinitions()));
    }
    int next = index + 1;
    for (int child = 0; child < element.children(); child++) {
      next = leaves(elements, next, path, levels, leaves);
    }
    return next;
  }

  private static Element element(ThriftReader in) {
    String name = "";
    long type = -1;
    int repetition = 0;
    int children = 0;
    int converted = -1;
    int logical = 0;
    String foreign = null;
    in.begin();
    while (in.next()) {
      switch (in.field()) {
        case 1 -> type = in.integer();
        case 3 -> repetition = in.size();
        case 4 -> name = in.text();
        case 5 -> children = in.size();
        case 6 -> {
          converted = in.size();
          foreign = foreign == null ? converted(converted) : foreign;
        }
        case 10 -> {
          in.begin();
          foreign = null;
          while (in.next()) {
            logical = in.field();
            foreign = logical(logical, foreign);
            in.skip();
          }
        }
        default -> in.skip();
      }
    }
    if (type != BYTE_ARRAY) {
      foreign = type >= 0 && type < TYPES.size() ? TYPES.get((int) type) : "values of type " + type;
    }
    return new Element(name, repetition, children, foreign, Primitive.of(type, converted, logical));
  }

  /// What the older of two ways to say what bytes mean says, or null for text.
  private static @Nullable String converted(int type) {
    return switch (type) {
      case 0, 4, 19 -> null; // UTF8, ENUM, JSON
      case 5 -> "DECIMAL";
      case 20 -> "BSON";
      default -> "values of converted type " + type;
    };
  }

  private static @Nullable String logical(int type, @Nullable String before) {
    return switch (type) {
      case 1, 4, 12 -> before; // STRING, ENUM, JSON
      case 5 -> "DECIMAL";
      case 11 -> "nulls alone";
      case 13 -> "BSON";
      default -> "values of logical type " + type;
    };
  }

  /// Finds the column of that name, or else the field of a struct whose names make it with dots.
  private void find(List<Leaf> leaves, String wanted) {
    Leaf found =
        leaves.stream()
            .filter(leaf -> leaf.dotted().equals(wanted))
            .max(Comparator.comparingInt(leaf -> leaf.path().getFirst().length()))
            .orElse(null);
    if (found == null) {
      var within = leaves.stream().filter(leaf -> leaf.isWithin(wanted)).map(Leaf::dotted).toList();
      throw new InvalidInputException(
          within.isEmpty()
              ? "%s has no column '%s' but %s; name the column that has the text."
                  .formatted(name, wanted, leaves.stream().map(Leaf::dotted).toList())
              : "%s: the column '%s' is a list or a struct with %s; name a column of strings."
                  .formatted(name, wanted, within));
    }
    if (found.repetitions() > 0) {
      throw new InvalidInputException(
          "%s: the column '%s' holds lists, and a document is one string; join them, or name another column."
              .formatted(name, wanted));
    }
    if (found.foreign() != null) {
      throw new InvalidInputException(
          "%s: the column '%s' holds no strings but %s; name the column that has the text."
              .formatted(name, wanted, found.foreign()));
    }
    column = found;
    columnIndex = leaves.indexOf(found);
  }

  private void readRowGroup(ThriftReader in) throws IOException {
    if (column == null) {
      throw new IOException("it has no schema before its rows");
    }
    long rows = -1;
    Chunk chunk = null;
    in.begin();
    while (in.next()) {
      switch (in.field()) {
        case 1 -> {
          int columns = in.list();
          for (int i = 0; i < columns; i++) {
            if (i == columnIndex) {
              chunk = chunk(in, column.path());
            } else {
              in.begin();
              while (in.next()) {
                in.skip();
              }
            }
          }
        }
        case 3 -> rows = in.natural();
        default -> in.skip();
      }
    }
    if (chunk == null || rows < 0) {
      throw new IOException("a row group lacks the column, or the number of its rows");
    }
    chunks.add(new Chunk(rows, chunk.codec(), chunk.start(), chunk.end()));
  }

  private Chunk chunk(ThriftReader in, List<String> path) throws IOException {
    Chunk chunk = null;
    in.begin();
    while (in.next()) {
      switch (in.field()) {
        case 1 ->
            throw new InvalidInputException(
                "%s keeps its columns in other files (%s), which Sluice does not read; write it as one file"
                    .formatted(name, in.text()));
        case 3 -> chunk = columnData(in, path);
        case 8 -> throw encrypted();
        default -> in.skip();
      }
    }
    if (chunk == null) {
      throw new IOException("a row group does not say where its column is");
    }
    return chunk;
  }

  private Chunk columnData(ThriftReader in, List<String> expected) throws IOException {
    List<String> path = new ArrayList<>();
    int codec = 0;
    long length = 0;
    long data = 0;
    long dictionary = 0;
    in.begin();
    while (in.next()) {
      switch (in.field()) {
        case 3 -> {
          for (int size = in.list(); size > 0; size--) {
            path.add(in.text());
          }
        }
        case 4 -> codec = in.size();
        case 7 -> length = in.natural();
        case 9 -> data = in.natural();
        case 11 -> dictionary = in.natural();
        default -> in.skip();
      }
    }
    long start = dictionary > 0 && dictionary < data ? dictionary : data;
    if (!path.equals(expected) || start > channel.size() || length > channel.size() - start) {
      throw new IOException("a row group's column is not where its footer says");
    }
    return new Chunk(0, codec, start, start + length);
  }

  /// The column's part in each row group, in order.
  List<Chunk> chunks() {
    return chunks;
  }

  /// All columns of the file.
  List<Leaf> leaves() {
    return leaves;
  }

  /// What the column's numbers are; null for strings.
  @Nullable Primitive number() {
    return column == null ? null : column.number();
  }

  /// The level of what continues a list; 0 for a column without lists.
  int repetitions() {
    return column == null ? 0 : column.repetitions();
  }

  /// The definition level of a value that is there; below it something is null.
  int definitions() {
    return column == null ? 0 : column.definitions();
  }

  @Override
  public void close() throws IOException {
    channel.close();
  }
}
