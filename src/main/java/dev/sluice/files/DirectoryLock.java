package dev.sluice.files;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.time.Instant;
import java.time.format.DateTimeParseException;
import java.time.temporal.ChronoUnit;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Consumer;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/// Who may change a directory. One process owns it, or several read it and none owns it; the second
/// that asks is told who was first.
///
/// The lock is the operating system's on the file `.lock` in the directory, so that it ends with
/// its process, however that ends. The file itself stays. On a network file system it holds between
/// machines if the file system passes locks on (NFS version 4 does, version 3 with its lock
/// daemon); where a file system has no locks, [#warning] says that nothing keeps others away.
public final class DirectoryLock implements AutoCloseable {
  private static final String FILE = ".lock";
  private static final int LONGEST_OWNER = 2000;

  /// How an owner's name ends.
  private static final Pattern OWNER =
      Pattern.compile("(?s).* \\(process (\\d+) on (.*), since (\\S+)\\)");

  private static final Duration BETWEEN_ATTEMPTS = Duration.ofMillis(100);

  /// Of this process, by file: the system's lock would be lost when a second channel on the same
  /// file is closed.
  private static final Map<Path, Held> HELD = new HashMap<>();

  private static final class Held {
    private final FileChannel channel;
    private final boolean shared;
    private final Thread thread = Thread.currentThread();
    private int count = 1;

    Held(FileChannel channel, boolean shared) {
      this.channel = channel;
      this.shared = shared;
    }

    boolean isOurs() {
      return !shared && thread == Thread.currentThread();
    }
  }

  private final @Nullable Path file;
  private final @Nullable String warning;
  private boolean open = true;

  private DirectoryLock(@Nullable Path file, @Nullable String warning) {
    this.file = file;
    this.warning = warning;
  }

  /// Becomes the one owner of a directory, which is made where it is not there. The thread that
  /// owns it may ask again.
  ///
  /// @param doing what for, as the next one is told: `train --resume runs/a`
  /// @throws InvalidInputException if it has an owner or readers
  public static DirectoryLock own(Path directory, String doing) throws IOException {
    make(directory);
    return lock(directory, FILE, doing, false);
  }

  /// Becomes the one owner as [#own] does, after everyone who has the directory now.
  ///
  /// @param waiting hears once whom for, before the wait
  public static DirectoryLock await(Path directory, String doing, Consumer<String> waiting)
      throws IOException {
    make(directory);
    boolean told = false;
    while (true) {
      var attempt = attempt(directory, FILE, doing, false);
      if (attempt.lock() != null) {
        return attempt.lock();
      }
      if (!told) {
        waiting.accept(attempt.owner());
        told = true;
      }
      try {
        Thread.sleep(BETWEEN_ATTEMPTS);
      } catch (InterruptedException _) {
        Thread.currentThread().interrupt();
        throw new InterruptedIOException(
            "interrupted while %s was in use by %s".formatted(directory, attempt.owner()));
      }
    }
  }

  /// Becomes the one owner of a part of a directory, as shards of a study are.
  ///
  /// @param part a name that no file of the directory has
  public static DirectoryLock ownPart(Path directory, String part, String doing)
      throws IOException {
    make(directory);
    return lock(directory, FILE + "-" + part, doing, false);
  }

  /// Makes a directory, and those around it, where it is not there.
  ///
  /// @throws InvalidInputException if it cannot be made
  public static void make(Path directory) {
    try {
      Files.createDirectories(directory);
    } catch (IOException e) {
      throw new InvalidInputException(
          "the directory %s cannot be made (%s); choose another place, or make room for it there"
              .formatted(directory, Failures.words(e)),
          e);
    }
  }

  /// Whether a process runs.
  public enum Presence {
    RUNS,
    ENDED,
    /// It is on another machine.
    UNKNOWN
  }

  /// Who owns a directory, or owned it and was killed.
  ///
  /// @param words what for and where, as [#own] tells a second process
  public record Owner(String words, Presence presence) {}

  /// Who owns a directory, by what he wrote into the lock's file. Nothing is locked, so that
  /// whoever only watches is in nobody's way; empty when the last owner has left.
  public static Optional<Owner> owner(Path directory) {
    Path file = directory.resolve(FILE);
    if (!Files.isRegularFile(file, LinkOption.NOFOLLOW_LINKS)) {
      return Optional.empty();
    }
    String words;
    try (var channel = FileChannel.open(file, StandardOpenOption.READ)) {
      words = text(channel);
    } catch (IOException _) {
      return Optional.empty();
    }
    var owner = OWNER.matcher(words);
    return words.isEmpty()
        ? Optional.empty()
        : Optional.of(
            new Owner(
                words,
                owner.matches()
                    ? presence(owner.group(1), owner.group(2), owner.group(3))
                    : Presence.UNKNOWN));
  }

  /// A process of the same number that began after the owner wrote his name is another.
  private static Presence presence(String pid, String host, String since) {
    if (!host.equals(hostName())) {
      return Presence.UNKNOWN;
    }
    try {
      var written = Instant.parse(since).plusSeconds(2); // it is told in whole seconds
      return ProcessHandle.of(Long.parseLong(pid))
          .filter(ProcessHandle::isAlive)
          .filter(process -> !process.info().startInstant().orElse(written).isAfter(written))
          .map(_ -> Presence.RUNS)
          .orElse(Presence.ENDED);
    } catch (DateTimeParseException | NumberFormatException _) {
      return Presence.UNKNOWN;
    }
  }

  /// Whether a directory has ever had an owner or a reader.
  public static boolean isKnown(Path directory) {
    return Files.exists(directory.resolve(FILE), LinkOption.NOFOLLOW_LINKS);
  }

  /// Keeps owners away while a directory is read. A directory that this process may not write, and
  /// that nobody has owned, needs no lock.
  public static DirectoryLock read(Path directory, String doing) throws IOException {
    Path file = directory.resolve(FILE);
    if (!Files.exists(file, LinkOption.NOFOLLOW_LINKS) && !Files.isWritable(directory)) {
      return new DirectoryLock(null, null);
    }
    return lock(directory, FILE, doing, true);
  }

  private static DirectoryLock lock(Path directory, String name, String doing, boolean shared)
      throws IOException {
    var attempt = attempt(directory, name, doing, shared);
    if (attempt.lock() == null) {
      throw new InvalidInputException(
          "%s is in use by %s; wait until it is done, or stop it"
              .formatted(directory, attempt.owner()));
    }
    return attempt.lock();
  }

  /// A lock, or who has it.
  private record Attempt(@Nullable DirectoryLock lock, String owner) {}

  private static Attempt attempt(Path directory, String name, String doing, boolean shared)
      throws IOException {
    Path file = directory.toRealPath().resolve(name);
    synchronized (HELD) {
      var held = HELD.get(file);
      if (held != null) {
        if (!held.isOurs() && !(shared && held.shared)) {
          return new Attempt(null, "this process");
        }
        held.count++;
        return new Attempt(new DirectoryLock(file, null), "");
      }
      var channel = open(file, shared);
      FileLock lock;
      try {
        lock = channel.tryLock(0, Long.MAX_VALUE, shared);
      } catch (IOException e) {
        channel.close();
        return new Attempt(
            new DirectoryLock(
                null,
                "%s is on a file system without locks (%s): nothing keeps a second process away from it"
                    .formatted(directory, Failures.words(e))),
            "");
      }
      if (lock == null) {
        String owner = owner(channel);
        channel.close();
        return new Attempt(null, owner);
      }
      try {
        if (!shared) {
          writeOwner(channel, doing);
        } else if (Files.isWritable(file)) {
          channel.truncate(0); // a killed owner's name
        }
      } catch (IOException e) {
        channel.close();
        throw Failures.notWritten(file, e);
      }
      HELD.put(file, new Held(channel, shared));
      return new Attempt(new DirectoryLock(file, null), "");
    }
  }

  private static FileChannel open(Path file, boolean shared) throws IOException {
    if (Files.isSymbolicLink(file)) {
      throw new InvalidInputException(file + " is a link, which a lock is not; remove it");
    }
    var options =
        shared && !Files.isWritable(file) && Files.exists(file)
            ? Set.of(StandardOpenOption.READ, LinkOption.NOFOLLOW_LINKS)
            : Set.of(
                StandardOpenOption.READ,
                StandardOpenOption.WRITE,
                StandardOpenOption.CREATE,
                LinkOption.NOFOLLOW_LINKS);
    try {
      return FileChannel.open(file, options);
    } catch (IOException e) {
      throw new InvalidInputException(
          "%s cannot be locked (%s); check its permissions"
              .formatted(file.getParent(), Failures.words(e)),
          e);
    }
  }

  private static void writeOwner(FileChannel channel, String doing) throws IOException {
    String owner =
        "%s (process %d on %s, since %s)"
            .formatted(
                Printable.brief(doing, LONGEST_OWNER / 2),
                ProcessHandle.current().pid(),
                hostName(),
                Instant.now().truncatedTo(ChronoUnit.SECONDS));
    channel.truncate(0);
    WholeFile.writeAll(channel, ByteBuffer.wrap(owner.getBytes(StandardCharsets.UTF_8)));
  }

  /// Not from the network, whose names may take long to find.
  private static String hostName() {
    try {
      return Files.readString(Path.of("/proc/sys/kernel/hostname")).strip();
    } catch (IOException _) {
      return "this machine";
    }
  }

  private static String text(FileChannel channel) throws IOException {
    var bytes = ByteBuffer.allocate(LONGEST_OWNER);
    channel.read(bytes, 0);
    return new String(bytes.array(), 0, bytes.position(), StandardCharsets.UTF_8).strip();
  }

  private static String owner(FileChannel channel) throws IOException {
    String owner = text(channel);
    return owner.isEmpty() ? "another process, which reads it" : owner;
  }

  /// What the user must know about this lock, or null.
  public @Nullable String warning() {
    return warning;
  }

  /// Lets others in.
  @Override
  public void close() {
    if (!open) {
      return;
    }
    open = false;
    if (file == null) {
      return;
    }
    synchronized (HELD) {
      var held = HELD.get(file);
      if (held == null || --held.count > 0) {
        return;
      }
      HELD.remove(file);
      try {
        if (!held.shared) { // a reader may not be able to write
          held.channel.truncate(0);
        }
        held.channel.close();
      } catch (IOException _) {
        // the lock ends with the process
      }
    }
  }
}
