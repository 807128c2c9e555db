package dev.sluice.fuzz;

import static org.junit.jupiter.api.Assertions.fail;

import com.sun.management.ThreadMXBean;
import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;

/// Gives a reader many broken inputs. Each must be read, or be refused in one clean sentence, in
/// bounded time and memory.
///
/// `-Dfuzz=N` says how many inputs every test takes. An input that is not taken well is left in
/// `target/fuzz`, with the number that makes it again.
public final class Fuzz {
  /// What one input may take: far more than any needs, far less than what a lying count asks for.
  private static final long MOST_BYTES = 700L << 20;

  private static final double MOST_SECONDS = 30;

  private Fuzz() {}

  /// How many inputs a test takes.
  public static int inputs() {
    return Integer.getInteger("fuzz", 250);
  }

  /// Makes an input from random numbers.
  public interface Input {
    byte[] make(Mutations mutations) throws IOException;
  }

  /// Reads an input.
  public interface Reader {
    void read(byte[] input) throws IOException;
  }

  /// What became of the inputs.
  public record Outcome(int read, int refused) {}

  /// Runs a reader over as many inputs as [#inputs] says.
  ///
  /// @param name of the reader
  public static Outcome run(String name, Input inputs, Reader reader) throws IOException {
    return run(name, inputs(), inputs, reader);
  }

  /// Runs a reader over so many inputs.
  public static Outcome run(String name, int count, Input inputs, Reader reader)
      throws IOException {
    int refused = 0;
    for (int i = 0; i < count; i++) {
      byte[] input = inputs.make(new Mutations(name.hashCode() * 1_000_003L + i));
      long allocated = allocated();
      long began = System.nanoTime();
      String wrong = null;
      Throwable cause = null;
      try {
        reader.read(input);
      } catch (InvalidInputException e) {
        refused++;
        wrong = wrong(e.getMessage());
        cause = e;
      } catch (IOException e) { // what the machine or the numbers did not allow
        refused++;
        wrong = wrong(String.valueOf(e.getMessage()));
        cause = e;
      } catch (RuntimeException | Error e) {
        wrong = "fails with " + e;
        cause = e;
      }
      if (wrong == null && (System.nanoTime() - began) / 1e9 > MOST_SECONDS) {
        wrong = "takes %.1f s".formatted((System.nanoTime() - began) / 1e9);
      }
      if (wrong == null && allocated() - allocated > MOST_BYTES) {
        wrong = "takes %d MB of heap".formatted((allocated() - allocated) >> 20);
      }
      if (wrong != null) {
        Path kept = Path.of("target/fuzz", name + "-" + i);
        Files.createDirectories(kept.getParent());
        Files.write(kept, input);
        fail("%s, input %d (%s): %s".formatted(name, i, kept, wrong), cause);
      }
    }
    System.out.printf("fuzz %s: %d inputs, %d refused%n", name, count, refused);
    return new Outcome(count - refused, refused);
  }

  /// What is wrong with a message; null for nothing.
  public static String wrong(String message) {
    if (!message.equals(Printable.line(message))) {
      return "says what is not clean: " + Printable.line(message);
    }
    if (message.isBlank()
        || message.matches(".*(Exception|dev\\.sluice\\.|tools\\.jackson|java\\.).*")) {
      return "says " + message;
    }
    return null;
  }

  private static long allocated() {
    return ((ThreadMXBean) ManagementFactory.getThreadMXBean()).getCurrentThreadAllocatedBytes();
  }
}
