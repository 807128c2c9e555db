package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.util.Iterator;
import java.util.zip.CRC32;
import org.jspecify.annotations.Nullable;

/// The values of a [ParquetFile]'s column, row by row; one page is in memory at a time, and the
/// dictionary of its row group.
final class ParquetPages {
  private static final int DATA = 0;
  private static final int DICTIONARY = 2;
  private static final int DATA_2 = 3;

  /// Of a header, which may hold the longest and the shortest string of its page.
  private static final int FIRST_TRY = 1 << 14;

  private static final int LAST_TRY = 1 << 26;

  /// Writers make pages of about 1 MiB; only a long string makes them longer.
  private static final int LARGEST = 1 << 30;

  private static final int MOST_ROWS = 1 << 24;

  private final ParquetFile file;
  private final String name;
  private final Iterator<ParquetFile.Chunk> chunks;
  private ParquetCodec codec = ParquetCodec.UNCOMPRESSED;
  private long position;
  private long end;
  private long rowsLeft;
  private ParquetValues.@Nullable Dictionary dictionary;
  private int leftInPage;
  private ParquetValues.@Nullable RunLengths levels;
  private ParquetValues.@Nullable RunLengths repetitions;
  private int definition;
  private boolean continues;
  private @Nullable ParquetValues values;
  private boolean present;

  /// @param name of the file for messages
  ParquetPages(ParquetFile file, String name) {
    this.file = file;
    this.name = name;
    this.chunks = file.chunks().iterator();
  }

  /// Goes on to the next row, or to the next element of a list; false after the last.
  boolean advance() throws IOException {
    while (leftInPage == 0) {
      // How many elements there are, only the pages know.
      if (file.repetitions() > 0 ? position < end : rowsLeft > 0) {
        readPage();
      } else if (chunks.hasNext()) {
        begin(chunks.next());
      } else {
        return false;
      }
    }
    leftInPage--;
    rowsLeft--;
    continues = repetitions != null && repetitions.next() > 0;
    definition = levels == null ? file.definitions() : levels.next();
    present = definition == file.definitions();
    if (present && values != null) {
      values.advance();
    }
    return true;
  }

  /// The row's value, or null.
  @Nullable ParquetValues value() {
    return present ? values : null;
  }

  /// Whether it belongs to the same row as the one before.
  boolean continues() {
    return continues;
  }

  /// How much of its path is there.
  int definition() {
    return definition;
  }

  private void begin(ParquetFile.Chunk chunk) {
    var codecs = ParquetCodec.values();
    if (chunk.codec() >= codecs.length || codecs[chunk.codec()] == ParquetCodec.LZO) {
      throw new InvalidInputException(
          "%s is compressed with %s, which Sluice does not read; write it again with ZSTD"
              .formatted(name, chunk.codec() < codecs.length ? "LZO" : "codec " + chunk.codec()));
    }
    codec = codecs[chunk.codec()];
    position = chunk.start();
    end = chunk.end();
    rowsLeft = chunk.rows();
    dictionary = null;
  }

  /// What stands before a page.
  ///
  /// @param size of the page as it is stored
  /// @param fullSize of the page decompressed
  /// @param levelsEncoding of a page in the first of two formats
  /// @param levelBytes before the compressed part of a page in the second
  /// @param repetitionBytes before those
  private record Header(
      int type,
      int fullSize,
      int size,
      @Nullable Integer checksum,
      int count,
      int encoding,
      int levelsEncoding,
      int levelBytes,
      int repetitionBytes,
      boolean compressed) {}

  private void readPage() throws IOException {
    if (position >= end) {
      throw new IOException("it has fewer rows than its footer says");
    }
    Header header = readHeader();
    if (header.size() > end - position) {
      throw new IOException("a page is longer than its column");
    }
    if (header.fullSize() > LARGEST || header.count() > MOST_ROWS) {
      throw new InvalidInputException(
          "%s has a page of %d bytes for %d rows, and Sluice reads pages of %d bytes and %d rows at most; write it with smaller pages"
              .formatted(name, header.fullSize(), header.count(), LARGEST, MOST_ROWS));
    }
    byte[] page = file.read(position, header.size()).array();
    position += header.size();
    requireChecksum(header, page);
    switch (header.type()) {
      case DICTIONARY ->
          dictionary =
              new ParquetValues.Dictionary(
                  codec.decompress(page, 0, page.length, header.fullSize()),
                  header.count(),
                  file.number());
      case DATA -> firstFormat(header, page);
      case DATA_2 -> secondFormat(header, page);
      default -> {} // an index, which nobody writes
    }
  }

  private static void requireChecksum(Header header, byte[] page) throws IOException {
    if (header.checksum() != null) {
      var checksum = new CRC32();
      checksum.update(page);
      if ((int) checksum.getValue() != header.checksum()) {
        throw new IOException("the checksum of a page differs");
      }
    }
  }

  /// All of the page is compressed; levels have their length before them.
  private void firstFormat(Header header, byte[] page) throws IOException {
    byte[] data = codec.decompress(page, 0, page.length, header.fullSize());
    int at = 0;
    if (file.repetitions() > 0) {
      int length = Integer.reverseBytes(ByteBuffer.wrap(data).getInt());
      at = Math.addExact(Integer.BYTES, length);
      setRepetitions(data, Integer.BYTES, at);
    }
    if (file.definitions() > 0) {
      if (header.levelsEncoding() != ParquetValues.RUN_LENGTHS) {
        throw unknownEncoding(header.levelsEncoding());
      }
      int start = Math.addExact(at, Integer.BYTES);
      int length = Integer.reverseBytes(ByteBuffer.wrap(data).getInt(at));
      at = Math.addExact(start, length);
      setLevels(data, start, at);
    }
    begin(header, data, at);
  }

  /// Levels stand before the compressed values.
  private void secondFormat(Header header, byte[] page) throws IOException {
    int from = header.repetitionBytes();
    int at = Math.addExact(from, header.levelBytes());
    if (at > page.length || at > header.fullSize()) {
      throw new IOException("the levels of a page are longer than it");
    }
    if (file.repetitions() > 0) {
      setRepetitions(page, 0, from);
    }
    if (file.definitions() > 0) {
      setLevels(page, from, at);
    }
    int size = header.fullSize() - at;
    var how = header.compressed() && size > 0 ? codec : ParquetCodec.UNCOMPRESSED;
    byte[] data = size == 0 ? new byte[0] : how.decompress(page, at, page.length - at, size);
    begin(header, data, 0);
  }

  private void setLevels(byte[] data, int from, int to) throws IOException {
    int width = Integer.SIZE - Integer.numberOfLeadingZeros(file.definitions());
    levels = new ParquetValues.RunLengths(data, from, to, width);
  }

  private void setRepetitions(byte[] data, int from, int to) throws IOException {
    int width = Integer.SIZE - Integer.numberOfLeadingZeros(file.repetitions());
    repetitions = new ParquetValues.RunLengths(data, from, to, width);
  }

  private void begin(Header header, byte[] data, int at) throws IOException {
    if (file.repetitions() == 0 && header.count() > rowsLeft) {
      throw new IOException("it has more rows than its footer says");
    }
    if (header.encoding() < 0) {
      throw new IOException("a page does not state its encoding");
    }
    values =
        ParquetValues.of(header.encoding(), data, at, header.count(), dictionary, file.number());
    if (values == null) {
      throw unknownEncoding(header.encoding());
    }
    leftInPage = header.count();
  }

  private InvalidInputException unknownEncoding(int encoding) {
    return new InvalidInputException(
        "%s has a page in encoding %d, which Sluice does not read; write it again with plain or dictionary encoding"
            .formatted(name, encoding));
  }

  private Header readHeader() throws IOException {
    for (long tried = FIRST_TRY; ; tried *= 16) {
      int length = (int) Math.min(tried, end - position);
      ByteBuffer bytes = file.read(position, length);
      try {
        Header header = header(new ThriftReader(bytes));
        position += bytes.position();
        return header;
      } catch (BufferUnderflowException | IllegalArgumentException e) {
        if (length < tried || tried >= LAST_TRY) {
          throw new IOException("the header of a page contradicts itself", e);
        }
      }
    }
  }

  private static Header header(ThriftReader in) {
    int type = -1;
    int fullSize = -1;
    int size = -1;
    Integer checksum = null;
    int count = 0;
    int encoding = -1;
    int levelsEncoding = -1;
    int levelBytes = 0;
    int repetitionBytes = 0;
    boolean compressed = true;
    in.begin();
    while (in.next()) {
      switch (in.field()) {
        case 1 -> type = in.size();
        case 2 -> fullSize = in.size();
        case 3 -> size = in.size();
        case 4 -> checksum = (int) in.integer();
        case 5, 7 -> { // a data page in the first format, a dictionary
          in.begin();
          while (in.next()) {
            switch (in.field()) {
              case 1 -> count = in.size();
              case 2 -> encoding = in.size();
              case 3 -> {
                if (type == DATA) {
                  levelsEncoding = in.size();
                } else {
                  in.skip(); // whether a dictionary is sorted
                }
              }
              default -> in.skip();
            }
          }
        }
        case 8 -> { // a data page in the second format
          in.begin();
          while (in.next()) {
            switch (in.field()) {
              case 1 -> count = in.size();
              case 4 -> encoding = in.size();
              case 5 -> levelBytes = in.size();
              case 6 -> repetitionBytes = in.size();
              case 7 -> compressed = in.truth();
              default -> in.skip();
            }
          }
        }
        default -> in.skip();
      }
    }
    if (type < 0 || fullSize < 0 || size < 0) {
      throw new IllegalArgumentException("no page");
    }
    return new Header(
        type,
        fullSize,
        size,
        checksum,
        count,
        encoding,
        levelsEncoding,
        levelBytes,
        repetitionBytes,
        compressed);
  }
}
