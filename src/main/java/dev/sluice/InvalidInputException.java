package dev.sluice;

/// Something that the user gave cannot be used: a file, a flag, a configuration. The message is one
/// sentence that names the offending value and the way out; the command line prints it as it is and
/// exits with 2. Whatever was named in it, the message is one [Printable#line].
public final class InvalidInputException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  public InvalidInputException(String message) {
    super(Printable.line(message));
  }

  public InvalidInputException(String message, Throwable cause) {
    super(Printable.line(message), cause);
  }
}
