package dev.sluice.tokenizer;

import ai.djl.huggingface.tokenizers.jni.TokenizersLibrary;
import ai.djl.util.Platform;
import dev.sluice.Printable;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URISyntaxException;
import java.net.URL;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.CodeSource;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;

/// The tokenizers library in a process of its own, so that a file or a text that it breaks down on
/// ends that process and not this one. What the process does is in [LibraryMain].
///
/// Not for several threads at once.
final class LibraryProcess implements AutoCloseable {
  /// What the process may use.
  ///
  /// @param megabytes of memory for data: Java's heap and all that the library allocates
  /// @param seconds of the processor for a request, besides [LibraryMain#SECONDS_PER_MEGABYTE]
  record Limits(int megabytes, int seconds) {
    static final Limits USUAL = new Limits(4096, 5);
  }

  /// Why there is no answer, in words for a sentence.
  static final class Failure extends Exception {
    private static final long serialVersionUID = 1L;

    private final boolean ended;

    private Failure(String words, boolean ended) {
      super(words);
      this.ended = ended;
    }

    /// The words.
    String words() {
      return Objects.requireNonNull(getMessage());
    }

    /// Whether the process broke down, and did not merely refuse.
    boolean ended() {
      return ended;
    }
  }

  /// What a terminal or a launcher sends to all processes at once is its owner's to handle: it ends
  /// with it. It leaves no core file, has a bound to its memory, and when memory is short all the
  /// same, the system is to end it first.
  private static final String SCRIPT =
      """
      trap '' INT TERM HUP QUIT
      ulimit -c 0
      ulimit -d "$1" 2>/dev/null || :
      echo 1000 2>/dev/null >/proc/self/oom_score_adj || :
      shift
      exec "$@"
      """;

  /// Makes the virtual machine start at once and keep quiet: whoever started it says what happened.
  private static final List<String> OPTIONS =
      List.of(
          "--enable-native-access=ALL-UNNAMED",
          "-XX:+UseSerialGC",
          "-XX:TieredStopAtLevel=1",
          "-Xms8m",
          "-Xmx1g",
          "-Xrs",
          "-XX:-UsePerfData",
          "-XX:+DisplayVMOutputToStderr",
          "-XX:+SuppressFatalErrorMessage",
          "-XX:+ExitOnOutOfMemoryError");

  /// How the library's memory is got: in large pieces and on large pages where the system has them,
  /// and none is given back. A vocabulary is a million small pieces, and the first touch of each
  /// fresh small page took as long as all else (decision 0036). The C library of glibc knows these
  /// words, and others pass them over.
  private static final String MEMORY =
      "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:glibc.malloc.mmap_max=0"
          + ":glibc.malloc.top_pad=67108864:glibc.malloc.trim_threshold=1073741824";

  private static final int OUT_OF_HEAP = 3;

  /// Settings for another virtual machine, such as a port that can be opened only once.
  private static final Set<String> FOR_OTHERS =
      Set.of("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH");

  private static final int LONGEST_COMPLAINT = 1 << 16;
  private static final int SHOWN = 300;
  private static final long PATIENCE_SECONDS = 10;

  private final Limits limits;
  private final Process process;
  private final DataInputStream in;
  private final DataOutputStream out;
  private boolean ready;

  private LibraryProcess(Limits limits, Process process) {
    this.limits = limits;
    this.process = process;
    this.in = new DataInputStream(new BufferedInputStream(process.getInputStream(), 1 << 16));
    this.out = new DataOutputStream(new BufferedOutputStream(process.getOutputStream(), 1 << 16));
  }

  /// Starts the process without waiting for it.
  static LibraryProcess start(Limits limits) {
    List<String> command = new ArrayList<>(List.of("/bin/sh", "-c", SCRIPT, "tokenizer"));
    command.add(String.valueOf(limits.megabytes() * 1024L));
    command.add(java());
    command.addAll(OPTIONS);
    command.addAll(List.of("-cp", classPath(), LibraryMain.class.getName()));
    command.add(String.valueOf(limits.seconds()));
    var builder = new ProcessBuilder(command);
    builder.environment().keySet().removeAll(FOR_OTHERS);
    // The processor's build of the library lies in the jar. Without this choice DJL looks for CUDA
    // and, where it finds it, downloads another build.
    builder.environment().put("RUST_FLAVOR", "cpu");
    builder.environment().put("RUST_BACKTRACE", "0");
    builder.environment().put("GLIBC_TUNABLES", MEMORY);
    try {
      return new LibraryProcess(limits, builder.start());
    } catch (IOException e) {
      throw notStarted(String.valueOf(e.getMessage()), e);
    }
  }

  private static String java() {
    Path java = Path.of(System.getProperty("java.home", ""), "bin", "java");
    if (!Files.isExecutable(java)) {
      throw notStarted("there is no program " + java, null);
    }
    return java.toString();
  }

  /// Only the places of the classes that the process needs: what else an application has would slow
  /// its start.
  private static String classPath() {
    Set<String> places = new TreeSet<>();
    for (Class<?> needed :
        List.of(LibraryMain.class, TokenizersLibrary.class, Platform.class, Logger.class)) {
      places.add(place(needed).toString());
    }
    return String.join(File.pathSeparator, places);
  }

  private static Path place(Class<?> needed) {
    CodeSource source = needed.getProtectionDomain().getCodeSource();
    URL place = source == null ? null : source.getLocation();
    if (place == null || !place.getProtocol().equals("file")) {
      throw notStarted(
          "%s was loaded from %s, not from a jar or directory of its own"
              .formatted(needed.getName(), place),
          null);
    }
    try {
      return Path.of(place.toURI());
    } catch (URISyntaxException | IllegalArgumentException e) {
      throw notStarted("the place %s is no path".formatted(place), e);
    }
  }

  private static UncheckedIOException notStarted(String why, @Nullable Throwable cause) {
    return new UncheckedIOException(
        new IOException(
            "a process for the tokenizer cannot be started (%s); --tokenizer bytes needs none"
                .formatted(Printable.brief(why, SHOWN)),
            cause));
  }

  /// Whether it can be asked.
  boolean isAlive() {
    return process.isAlive();
  }

  /// Its number in the operating system.
  long pid() {
    return process.pid();
  }

  /// Asks and waits for the answer.
  ///
  /// @param wanted of [LibraryMain]
  /// @throws Failure if the library refuses, or the process ended
  byte[] ask(byte wanted, byte[] request) throws Failure {
    give(wanted, request);
    return answer();
  }

  /// Asks without waiting for the answer, which [#answer] gives before anything else is asked.
  ///
  /// @param wanted of [LibraryMain]
  void give(byte wanted, byte[] request) {
    if (!ready) {
      awaitReady();
    }
    try {
      out.write(wanted);
      out.writeInt(request.length);
      out.write(request);
      out.flush();
    } catch (IOException _) {
      // it ended: there will be no answer, which is where the reason is asked for
    }
  }

  /// Waits for the answer to what was given.
  ///
  /// @throws Failure if the library refuses, or the process ended
  byte[] answer() throws Failure {
    try {
      byte status = in.readByte();
      int length = in.readInt();
      if ((status != LibraryMain.DONE && status != LibraryMain.REFUSED)
          || length < 0
          || length > LibraryMain.LARGEST_ANSWER) {
        close();
        throw new Failure("the library broke down: it gave no answer that can be read", true);
      }
      byte[] answer = new byte[length];
      in.readFully(answer);
      if (status == LibraryMain.REFUSED) {
        throw new Failure(firstLine(new String(answer, StandardCharsets.UTF_8)), false);
      }
      return answer;
    } catch (IOException e) {
      throw new Failure(ending(), true);
    }
  }

  private void awaitReady() {
    try {
      if (in.readByte() != LibraryMain.READY) {
        throw notStarted("it does not answer as it should", null);
      }
      ready = true;
    } catch (IOException e) {
      int code = exitCode();
      String complaint = complaint();
      throw notStarted(complaint.isEmpty() ? "it ended with code " + code : complaint, e);
    }
  }

  /// How the process ended, as far as the user is concerned.
  private String ending() {
    int code = exitCode();
    String complaint = complaint();
    if (code == OUT_OF_HEAP || complaint.startsWith("memory allocation of")) {
      return "it needs more memory than the %d MB that it may have".formatted(limits.megabytes());
    }
    if (code == LibraryMain.TOO_SLOW) {
      return "it did not end within %d seconds of computing and %d more for each megabyte"
          .formatted(limits.seconds(), LibraryMain.SECONDS_PER_MEGABYTE);
    }
    if (!complaint.isEmpty()) {
      return "the library broke down: " + complaint;
    }
    return code > 128
        ? "the library broke down with signal %d%s".formatted(code - 128, name(code - 128))
        : "its process ended with code " + code;
  }

  private static String name(int signal) {
    return switch (signal) {
      case 6 -> " (abort)";
      case 7, 11 -> " (a wrong memory address)";
      case 9 -> " (killed from outside, as a system does when memory is short)";
      default -> "";
    };
  }

  private int exitCode() {
    try {
      if (!process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS)) {
        process.destroyForcibly();
      }
      return process.waitFor();
    } catch (InterruptedException e) {
      process.destroyForcibly();
      Thread.currentThread().interrupt();
      return 0;
    }
  }

  /// What the library wrote before it ended: the message of a panic stands in the line below the
  /// one that says where. Else the first line that is no warning.
  private String complaint() {
    String said;
    try {
      said =
          new String(
              process.getErrorStream().readNBytes(LONGEST_COMPLAINT), StandardCharsets.UTF_8);
    } catch (IOException _) {
      return "";
    }
    List<String> lines = said.lines().filter(line -> !line.isBlank()).toList();
    for (int i = 0; i < lines.size(); i++) {
      if (lines.get(i).contains(" panicked at ") && i + 1 < lines.size()) {
        return firstLine(lines.get(i + 1));
      }
    }
    return lines.stream()
        .filter(line -> !line.startsWith("SLF4J") && !line.startsWith("WARNING:"))
        .findFirst()
        .map(LibraryProcess::firstLine)
        .orElse("");
  }

  /// In the user's words, as far as that can be.
  private static String firstLine(String said) {
    String line = said.lines().findFirst().orElse("no reason given").strip();
    return Printable.brief(
        line.replace("called `Result::unwrap()` on an `Err` value: ", "")
            .replace("called `Option::unwrap()` on a `None` value", "a value is missing"),
        SHOWN);
  }

  /// Ends the process.
  @Override
  public void close() {
    process.destroyForcibly();
    try {
      in.close();
      process.getErrorStream().close();
      process.getOutputStream().close();
    } catch (IOException _) {
      // what it had still to be told is lost with it
    }
  }
}
