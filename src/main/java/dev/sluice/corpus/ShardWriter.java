package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Failures;
import dev.sluice.files.Sha256;
import dev.sluice.files.WholeFile;
import dev.sluice.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;

/// Writes one shard beside its final place, counting and hashing on the way. Nothing is visible
/// under the final name before [#publish]; what was not published is removed on closing.
final class ShardWriter implements AutoCloseable {
  private final Path target;
  private final Path partial;
  private final FileChannel channel;
  private final Tokenizer tokenizer;
  private final int width;
  private final MessageDigest digest = Sha256.digest();
  private final ByteBuffer buffer = ByteBuffer.allocate(1 << 16).order(ByteOrder.LITTLE_ENDIAN);
  private long documents;
  private long bytes;
  private long tokens;
  private boolean inDocument;

  ShardWriter(Path target, Tokenizer tokenizer) throws IOException {
    this.target = target;
    this.tokenizer = tokenizer;
    this.width = TokenShard.width(tokenizer.vocabularySize());
    this.partial = WholeFile.partial(target);
    this.channel = WholeFile.create(partial);
  }

  /// Adds a piece of the current document.
  void text(String piece) throws IOException {
    for (int id : tokenizer.encode(piece)) {
      put(id);
    }
    bytes += HeldOutRule.utf8Length(piece);
    inDocument = true;
  }

  /// Ends the current document, if there is one.
  void endDocument() throws IOException {
    if (inDocument) {
      put(tokenizer.endOfText());
      documents++;
      inDocument = false;
    }
  }

  private void put(int id) throws IOException {
    if (id < 0 || id >= tokenizer.vocabularySize()) {
      throw new InvalidInputException(
          "%s made the id %d, which its vocabulary does not have; use another tokenizer"
              .formatted(tokenizer.describe(), id));
    }
    if (buffer.remaining() < width) {
      flush();
    }
    if (width == Short.BYTES) {
      buffer.putShort((short) id);
    } else {
      buffer.putInt(id);
    }
    tokens++;
  }

  private void flush() throws IOException {
    buffer.flip();
    digest.update(buffer.duplicate());
    try {
      WholeFile.writeAll(channel, buffer);
    } catch (IOException e) {
      throw Failures.notWritten(target, e);
    }
    buffer.clear();
  }

  /// Completes the shard, gives it its name and says what is in it.
  CorpusSummary.Split publish() throws IOException {
    flush();
    try {
      WholeFile.publish(channel, partial, target);
    } catch (IOException e) {
      throw Failures.notWritten(target, e);
    }
    return new CorpusSummary.Split(documents, bytes, tokens, Sha256.hex(digest));
  }

  long documents() {
    return documents;
  }

  @Override
  public void close() throws IOException {
    channel.close();
    Files.deleteIfExists(partial);
  }
}
