package dev.sluice.tensor;

import jdk.jfr.Category;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/// The time of a fused operation on its calling thread, for Java Flight Recorder. While nothing
/// records it costs nothing.
///
/// ```java
/// try (var _ = Operation.begin("AdamW", Operation.UPDATE)) {
/// ```
@Name(Operation.EVENT)
@Label("Operation")
@Category("Sluice")
@StackTrace(false)
public final class Operation extends Event implements AutoCloseable {
  /// The event's name in a recording; its fields are `operation` and `pass`.
  public static final String EVENT = "dev.sluice.Operation";

  public static final String FORWARD = "forward";
  public static final String BACKWARD = "backward";
  public static final String UPDATE = "update";

  @Label("Operation")
  final String operation;

  @Label("Pass")
  final String pass;

  private Operation(String operation, String pass) {
    this.operation = operation;
    this.pass = pass;
  }

  /// Begins an operation; it ends when closed.
  public static Operation begin(String operation, String pass) {
    var event = new Operation(operation, pass);
    event.begin();
    return event;
  }

  @Override
  public void close() {
    commit();
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
