package dev.sluice.tokenizer;

import ai.djl.huggingface.tokenizers.jni.LibUtils;
import ai.djl.huggingface.tokenizers.jni.TokenizersLibrary;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import org.jspecify.annotations.Nullable;

/// The process that the tokenizers library runs in, as [LibraryProcess] starts it.
///
/// It says `READY` on standard output, then answers one request from standard input after the
/// other. A request is a byte that says what is wanted, the length of what follows in four bytes,
/// and that: the text of a `tokenizer.json` for `LOAD` (answered by nothing), a text for `ENCODE`
/// (answered by ids of four bytes) or for `ENCODE_FRAMED` (with what the file puts around a text),
/// ids for `DECODE` (answered by a text). An answer begins with `DONE`, or with `REFUSED` when what
/// follows is the library's message. Texts are UTF-8, numbers big-endian.
///
/// It ends with its owner: at the end of its input, or, in the middle of work, when another process
/// has become its parent. It ends itself when a request takes too much of the processor. Nothing of
/// the library is ever freed, as freeing the deepest of trees overflows the stack.
///
/// Its start is waited for, so it uses no class that it can do without.
final class LibraryMain {
  static final byte LOAD = 1;
  static final byte ENCODE = 2;
  static final byte DECODE = 3;
  static final byte ENCODE_FRAMED = 4;

  static final byte READY = 10;
  static final byte DONE = 11;
  static final byte REFUSED = 12;

  /// Exit codes.
  static final int TOO_SLOW = 91;

  static final int NOT_STARTED = 92;

  /// Seconds of the processor that a request may take besides for each megabyte of it.
  static final int SECONDS_PER_MEGABYTE = 10;

  /// Bytes of an answer.
  static final int LARGEST_ANSWER = 1 << 28;

  private static final long WATCH_MILLISECONDS = 100;

  /// A request at work, and the processor time that it may take.
  private static final class Work {
    private final long nanoseconds;

    Work(long seconds) {
      nanoseconds = seconds * 1_000_000_000L;
    }
  }

  private static volatile @Nullable Work work;

  private final TokenizersLibrary library = TokenizersLibrary.LIB;
  private final DataInputStream in;
  private final DataOutputStream out;
  private long tokenizer;

  private LibraryMain() {
    in =
        new DataInputStream(
            new BufferedInputStream(new FileInputStream(FileDescriptor.in), 1 << 16));
    out =
        new DataOutputStream(
            new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 16));
  }

  /// @param arguments seconds of the processor that every request may take
  public static void main(String[] arguments) throws IOException {
    try {
      LibUtils.checkStatus();
    } catch (Throwable e) {
      say(e);
      Runtime.getRuntime().halt(NOT_STARTED);
    }
    int seconds = Integer.parseInt(arguments[0]);
    var watch = new Thread(LibraryMain::watch, "watch");
    watch.setDaemon(true);
    watch.start();
    new LibraryMain().answer(seconds);
  }

  private static void say(Throwable e) throws IOException {
    String words = e.getMessage() == null ? e.toString() : e.getMessage();
    try (var err = new FileOutputStream(FileDescriptor.err)) {
      err.write(words.getBytes(StandardCharsets.UTF_8));
    }
  }

  private void answer(int seconds) throws IOException {
    out.write(READY);
    out.flush();
    while (true) {
      int wanted = in.read();
      if (wanted < 0) {
        Runtime.getRuntime().halt(0);
      }
      byte[] request = new byte[in.readInt()];
      in.readFully(request);
      work = new Work(seconds + SECONDS_PER_MEGABYTE * (request.length / 1_000_000L));
      byte status = DONE;
      byte[] answer;
      try {
        answer =
            switch (wanted) {
              case LOAD -> load(request);
              case ENCODE -> encode(request, false);
              case ENCODE_FRAMED -> encode(request, true);
              default -> decode(request);
            };
      } catch (RuntimeException e) {
        status = REFUSED;
        answer = String.valueOf(e.getMessage()).getBytes(StandardCharsets.UTF_8);
      }
      work = null;
      out.write(status);
      out.writeInt(answer.length);
      out.write(answer);
      out.flush();
    }
  }

  private byte[] load(byte[] json) {
    tokenizer = library.createTokenizerFromString(new String(json, StandardCharsets.UTF_8));
    library.disableTruncation(tokenizer);
    library.disablePadding(tokenizer);
    return new byte[0];
  }

  private byte[] encode(byte[] text, boolean framed) {
    long encoding = library.encode(tokenizer, new String(text, StandardCharsets.UTF_8), framed);
    long[] ids = library.getTokenIds(encoding);
    library.deleteEncoding(encoding);
    requireSmall(ids.length * 4L);
    var answer = ByteBuffer.allocate(ids.length * 4);
    for (long id : ids) {
      answer.putInt((int) id);
    }
    return answer.array();
  }

  private byte[] decode(byte[] request) {
    var numbers = ByteBuffer.wrap(request);
    long[] ids = new long[request.length / 4];
    for (int i = 0; i < ids.length; i++) {
      ids[i] = numbers.getInt();
    }
    String text = library.decode(tokenizer, ids, true);
    requireSmall(text.length());
    byte[] answer = text.getBytes(StandardCharsets.UTF_8);
    requireSmall(answer.length);
    return answer;
  }

  private static void requireSmall(long bytes) {
    if (bytes > LARGEST_ANSWER) {
      throw new IllegalStateException(
          "the result is larger than " + (LARGEST_ANSWER >> 20) + " MB");
    }
  }

  /// The main thread may be deep in the library, for ever.
  private static void watch() {
    var self = ProcessHandle.current();
    long owner = parent(self);
    Work before = null;
    long began = 0;
    while (true) {
      try {
        Thread.sleep(WATCH_MILLISECONDS);
      } catch (InterruptedException e) {
        throw new AssertionError("nobody interrupts it", e);
      }
      Work now = work;
      if (now == null) {
        continue;
      }
      if (parent(self) != owner) {
        Runtime.getRuntime().halt(0);
      }
      long used = processorTime(self);
      if (now != before) {
        before = now;
        began = used;
      } else if (used - began > now.nanoseconds) {
        Runtime.getRuntime().halt(TOO_SLOW);
      }
    }
  }

  private static long parent(ProcessHandle self) {
    var parent = self.parent();
    return parent.isPresent() ? parent.get().pid() : 0;
  }

  private static long processorTime(ProcessHandle self) {
    var used = self.info().totalCpuDuration();
    return used.isPresent() ? used.get().toNanos() : 0;
  }
}
