package dev.sluice.tensor;

import jdk.jfr.Category;
import jdk.jfr.Event;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.StackTrace;

/// What passes between Java and libtorch, for Java Flight Recorder: on a device each of these costs
/// microseconds, and a number that is read back waits for all that was begun before. While nothing
/// records it costs nothing.
public final class Traffic {
  private Traffic() {}

  /// A tensor that an operation of libtorch gave to Java, or a view of one.
  @Name(Result.EVENT)
  @Label("Result of libtorch")
  @Category("Sluice")
  @StackTrace(false)
  public static final class Result extends Event {
    /// The event's name in a recording; its field is `elements`.
    public static final String EVENT = "dev.sluice.LibtorchResult";

    @Label("Elements")
    long elements;
  }

  /// Numbers of Java that became a tensor, or of a tensor that were brought to Java.
  @Name(Transfer.EVENT)
  @Label("Transfer")
  @Category("Sluice")
  @StackTrace(false)
  public static final class Transfer extends Event {
    /// The event's name in a recording; its fields are `toHost` and `elements`.
    public static final String EVENT = "dev.sluice.Transfer";

    @Label("To the host")
    boolean toHost;

    @Label("Elements")
    long elements;
  }

  static void result(Tensor tensor) {
    if (Operation.areRecorded()) {
      var event = new Result();
      if (event.shouldCommit()) {
        event.elements = tensor.elements();
        event.commit();
      }
    }
  }

  static void readBack(long elements) {
    transfer(true, elements);
  }

  static void upload(long elements) {
    transfer(false, elements);
  }

  private static void transfer(boolean toHost, long elements) {
    if (Operation.areRecorded()) {
      var event = new Transfer();
      if (event.shouldCommit()) {
        event.toHost = toHost;
        event.elements = elements;
        event.commit();
      }
    }
  }
}
