package dev.sluice.state;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.Failures;
import dev.sluice.files.RegularFile;
import dev.sluice.files.Sha256;
import dev.sluice.files.WholeFile;
import dev.sluice.state.LayerStates.Part;
import dev.sluice.state.PrefixCache.Piece;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.DigestInputStream;
import java.security.DigestOutputStream;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/// The file of a [PrefixCache]: what it is and which order bytes have, the model, the form of what
/// its layers keep, the number of pieces, the pieces with parents first, and the SHA-256 of all
/// before.
///
/// A piece is the number of its parent, whether it is exact, whether it has a checkpoint, when both
/// were used, how many tokens, the tokens, and the elements of its tensors in the form's order. No
/// sizes of tensors are written: they follow from the form, which must be the one that the model
/// has.
final class SavedPrefixes {
  /// How all of these files begin, of any version and machine.
  private static final String BEGIN = "Sluice prefixes ";

  private static final String MAGIC = BEGIN + "1 " + ByteOrder.nativeOrder() + "\n";

  private static final int CHECKSUM = 32;
  private static final int BLOCK = 1 << 16;
  private static final String WAY_OUT = "remove it, or go on without it";

  /// Bytes of a piece at least: its numbers and one token.
  private static final int SMALLEST_PIECE = 4 + 2 + 2 * 8 + 2 * 4;

  private final Path file;
  private final DataInputStream in;

  /// Bytes before the checksum that were not read yet.
  private long left;

  private final byte[] block = new byte[BLOCK];

  private SavedPrefixes(Path file, InputStream in, long left) {
    this.file = file;
    this.in = new DataInputStream(in);
    this.left = left;
  }

  static void write(PrefixCache cache, Path file) throws IOException {
    WholeFile.write(
        file,
        bytes -> {
          var digest = Sha256.digest();
          var buffered = new BufferedOutputStream(bytes, BLOCK);
          var out = new DataOutputStream(new DigestOutputStream(buffered, digest));
          out.write(MAGIC.getBytes(StandardCharsets.UTF_8));
          write(out, cache.model());
          write(out, cache.form());
          var pieces = cache.pieces();
          out.writeInt(pieces.size() - 1);
          Map<Piece, Integer> numbers = new HashMap<>();
          for (var piece : pieces) {
            if (piece.parent != null) {
              out.writeInt(Objects.requireNonNull(numbers.get(piece.parent)));
              write(out, piece);
            }
            numbers.put(piece, numbers.size() - 1);
          }
          buffered.write(digest.digest());
          buffered.flush();
        });
  }

  private static void write(DataOutputStream out, String text) throws IOException {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    out.writeInt(bytes.length);
    out.write(bytes);
  }

  private static void write(DataOutputStream out, Piece piece) throws IOException {
    out.writeBoolean(piece.exact);
    out.writeBoolean(piece.checkpoint != null);
    out.writeLong(piece.used);
    out.writeLong(piece.checkpointUsed);
    out.writeInt(piece.tokens.length);
    for (int token : piece.tokens) {
      out.writeInt(token);
    }
    write(out, piece.keysAndValues);
    if (piece.checkpoint != null) {
      write(out, piece.checkpoint);
    }
  }

  private static void write(OutputStream out, Part part) throws IOException {
    byte[] block = new byte[BLOCK];
    try (var _ = Scope.withoutGradient()) {
      for (var tensor : part.tensors().values()) {
        var memory = tensor.to(Device.CPU).contiguous().memory();
        for (long at = 0; at < memory.byteSize(); at += BLOCK) {
          int count = (int) Math.min(BLOCK, memory.byteSize() - at);
          MemorySegment.copy(memory, ValueLayout.JAVA_BYTE, at, block, 0, count);
          out.write(block, 0, count);
        }
      }
    }
  }

  /// Refuses a file that begins as none of these do; one without bytes is none's loss.
  static void requireNothingElse(Path file) {
    if (!Files.exists(file)) {
      return;
    }
    byte[] begin = BEGIN.getBytes(StandardCharsets.UTF_8);
    try (var in = Files.newInputStream(file)) {
      byte[] found = in.readNBytes(begin.length);
      if (!Arrays.equals(found, 0, found.length, begin, 0, found.length)) {
        throw new InvalidInputException(
            "%s holds something else than saved prefixes, which would be written over it; name another file, or move it away"
                .formatted(file));
      }
    } catch (IOException e) {
      throw new InvalidInputException(
          "%s is to be replaced by saved prefixes and cannot be read (%s); name another file"
              .formatted(file, Failures.words(e)),
          e);
    }
  }

  /// Fills a new cache.
  static void read(Path file, PrefixCache cache, Slot like) {
    RegularFile.require(file, "go on without it");
    var digest = Sha256.digest();
    try (var bytes = Files.newInputStream(file)) {
      long size = Files.size(file);
      var buffered = new BufferedInputStream(bytes, BLOCK);
      var saved = new SavedPrefixes(file, new DigestInputStream(buffered, digest), size - CHECKSUM);
      saved.read(cache, like);
      saved.requireChecksum(buffered, digest);
    } catch (IOException e) {
      throw new InvalidInputException(
          "the saved prefixes %s cannot be read (%s); %s"
              .formatted(file, Failures.words(e), WAY_OUT),
          e);
    }
  }

  private void requireChecksum(InputStream rest, MessageDigest digest) throws IOException {
    if (left != 0) {
      throw damaged("%d bytes follow the last piece".formatted(left));
    }
    if (!MessageDigest.isEqual(rest.readNBytes(CHECKSUM), digest.digest())) {
      throw damaged("its SHA-256 is another one than was written");
    }
  }

  private InvalidInputException damaged(String what) {
    return new InvalidInputException(
        "the saved prefixes %s are damaged: %s; %s".formatted(file, what, WAY_OUT));
  }

  private void read(PrefixCache cache, Slot like) throws IOException {
    byte[] magic = MAGIC.getBytes(StandardCharsets.UTF_8);
    if (left < magic.length || !MAGIC.equals(text(magic.length))) {
      throw new InvalidInputException(
          "%s holds no prefixes of this version of the program on such a machine; %s"
              .formatted(file, WAY_OUT));
    }
    String model = text(count("the length of the model's name", 1));
    if (!model.equals(cache.model())) {
      throw new InvalidInputException(
          "the saved prefixes %s are of the model %s, not of %s; %s"
              .formatted(
                  file, Printable.brief(model, 200), Printable.brief(cache.model(), 200), WAY_OUT));
    }
    String form = text(count("the length of the form", 1));
    int pieces = count("the number of pieces", SMALLEST_PIECE);
    if (pieces == 0) {
      return;
    }
    if (!form.equals(like.states.form())) {
      throw new InvalidInputException(
          "the saved prefixes %s are of layers with %s, and this model has %s; %s"
              .formatted(
                  file,
                  Printable.brief(form, 200),
                  Printable.brief(like.states.form(), 200),
                  WAY_OUT));
    }
    cache.requireForm(form);
    var read = new ArrayList<@Nullable Piece>();
    var root = cache.pieces().getFirst();
    for (int i = 0; i < pieces; i++) {
      read.add(piece(i, root, read, cache, like));
    }
  }

  /// Reads a piece and takes it up, unless there is no room for what it follows.
  private @Nullable Piece piece(
      int number, Piece root, List<@Nullable Piece> before, PrefixCache cache, Slot like)
      throws IOException {
    int of = readInt();
    if (of < -1 || of >= number) {
      throw damaged("piece %d follows piece %d".formatted(number, of));
    }
    var parent = of < 0 ? root : before.get(of);
    boolean exact = readBoolean();
    boolean hasCheckpoint = readBoolean();
    long used = readLong();
    long checkpointUsed = readLong();
    int tokens = count("the number of tokens of piece " + number, Integer.BYTES);
    if (tokens == 0 || (parent != null && parent.end > Integer.MAX_VALUE - tokens)) {
      throw damaged("piece %d has %d tokens".formatted(number, tokens));
    }
    int[] ids = new int[tokens];
    for (int i = 0; i < tokens; i++) {
      ids[i] = readInt();
    }
    var keysAndValues = Part.none();
    var checkpoint = hasCheckpoint ? Part.none() : null;
    try {
      fill(keysAndValues, like.states.growing(), tokens);
      if (checkpoint != null) {
        fill(checkpoint, like.states.recurrent(), 0);
      }
    } catch (IOException | RuntimeException | Error e) {
      release(keysAndValues, checkpoint);
      throw e;
    }
    if (parent == null || parent.isReleased()) {
      release(keysAndValues, checkpoint);
      return null;
    }
    var piece = new Piece(parent, ids, exact && parent.exact, keysAndValues, checkpoint);
    piece.used = used;
    piece.checkpointUsed = checkpointUsed;
    cache.add(piece);
    cache.advanceClock(Math.max(used, checkpointUsed));
    cache.keepWithinBudget();
    return piece;
  }

  private static void release(Part keysAndValues, @Nullable Part checkpoint) {
    keysAndValues.close();
    if (checkpoint != null) {
      checkpoint.close();
    }
  }

  /// Reads tensors like others.
  ///
  /// @param tokens of keys and values; 0 for recurrent states, which have no tokens
  private void fill(Part part, Map<LayerStates.Key, Tensor> like, int tokens) throws IOException {
    try (var _ = Scope.withoutGradient()) {
      for (var entry : like.entrySet()) {
        var each = entry.getValue();
        long[] shape = each.shape();
        long count = each.elements();
        if (tokens > 0) {
          count = count / shape[2] * tokens;
          shape[2] = tokens;
        }
        require(count * each.type().bytes());
        var tensor = Tensor.zeros(each.type(), shape);
        var memory = tensor.memory();
        for (long at = 0; at < memory.byteSize(); at += BLOCK) {
          int bytes = (int) Math.min(BLOCK, memory.byteSize() - at);
          in.readFully(block, 0, bytes);
          MemorySegment.copy(block, 0, memory, ValueLayout.JAVA_BYTE, at, bytes);
        }
        left -= memory.byteSize();
        part.tensors().put(entry.getKey(), tensor.to(each.device()).retain());
      }
    }
  }

  /// Refuses to read more than there is.
  private void require(long bytes) {
    if (bytes < 0 || bytes > left) {
      throw damaged(
          "%d bytes are to follow where there are %d".formatted(bytes, Math.max(0, left)));
    }
  }

  /// How many there are of something, each of at least so many bytes.
  private int count(String what, int bytes) throws IOException {
    int count = readInt();
    if (count < 0 || (long) count * bytes > left) {
      throw damaged("%s is %d, and %d bytes follow".formatted(what, count, left));
    }
    return count;
  }

  private String text(int bytes) throws IOException {
    require(bytes);
    left -= bytes;
    byte[] text = new byte[bytes];
    in.readFully(text);
    return new String(text, StandardCharsets.UTF_8);
  }

  private boolean readBoolean() throws IOException {
    require(1);
    left--;
    return in.readBoolean();
  }

  private int readInt() throws IOException {
    require(Integer.BYTES);
    left -= Integer.BYTES;
    return in.readInt();
  }

  private long readLong() throws IOException {
    require(Long.BYTES);
    left -= Long.BYTES;
    return in.readLong();
  }
}
