package dev.sluice.tensor;

import jdk.jfr.Category;
import jdk.jfr.Event;
import jdk.jfr.FlightRecorder;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;
import org.jspecify.annotations.Nullable;

/// The time of a fused operation on its calling thread, for Java Flight Recorder. While nothing
/// records it costs nothing.
///
/// ```java
/// try (var _ = Operation.begin("AdamW", Operation.UPDATE)) {
/// ```
public final class Operation {
  /// The event's name in a recording; its fields are `operation` and `pass`.
  public static final String EVENT = "dev.sluice.Operation";

  public static final String FORWARD = "forward";
  public static final String BACKWARD = "backward";
  public static final String UPDATE = "update";

  private Operation() {}

  /// Whether anything records events. Asked before one is made: the first of its kind costs a start
  /// a tenth of a second.
  static boolean areRecorded() {
    return FlightRecorder.isInitialized();
  }

  /// Begins an operation, which ends when closed; null while nothing records.
  public static @Nullable Timed begin(String operation, String pass) {
    if (!areRecorded()) {
      return null;
    }
    var event = new Timed(operation, pass);
    event.begin();
    return event;
  }

  /// The event.
  @Name(EVENT)
  @Label("Operation")
  @Category("Sluice")
  @StackTrace(false)
  public static final class Timed extends Event implements AutoCloseable {
    @Label("Operation")
    final String operation;

    @Label("Pass")
    final String pass;

    private Timed(String operation, String pass) {
      this.operation = operation;
      this.pass = pass;
    }

    @Override
    public void close() {
      commit();
    }
  }

  /// The time of one matrix product on the thread that computes it.
  @Name(Product.EVENT)
  @Label("Matrix product")
  @Category("Sluice")
  @StackTrace(false)
  public static final class Product extends Event {
    /// The event's name in a recording; its field is `multiplications`.
    public static final String EVENT = "dev.sluice.MatrixProduct";

    @Label("Multiplications")
    long multiplications;
  }
}
