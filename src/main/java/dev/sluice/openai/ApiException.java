package dev.sluice.openai;

import dev.sluice.Printable;
import org.jspecify.annotations.Nullable;

/// A request that is not answered as it wants, in the terms of the protocol.
final class ApiException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  private final int status;
  private final String type;
  private final @Nullable String param;
  private final @Nullable String code;
  private final int retrySeconds;

  private ApiException(
      int status,
      String type,
      @Nullable String param,
      @Nullable String code,
      int retrySeconds,
      String message) {
    super(Printable.line(message));
    this.status = status;
    this.type = type;
    this.param = param;
    this.code = code;
    this.retrySeconds = retrySeconds;
  }

  /// A field of the request is at fault.
  ///
  /// @param param its place, such as `messages[2].content`; null for the request as a whole
  static ApiException invalid(@Nullable String param, String message) {
    return new ApiException(400, "invalid_request_error", param, null, 0, message);
  }

  /// As [#invalid], with a code that programs know.
  static ApiException invalid(@Nullable String param, String code, String message) {
    return new ApiException(400, "invalid_request_error", param, code, 0, message);
  }

  static ApiException unauthorized(String message) {
    return new ApiException(401, "authentication_error", null, "invalid_api_key", 0, message);
  }

  static ApiException forbidden(String message) {
    return new ApiException(403, "permission_error", null, null, 0, message);
  }

  static ApiException notFound(String message) {
    return new ApiException(404, "not_found_error", null, "not_found", 0, message);
  }

  static ApiException methodNotAllowed(String message) {
    return new ApiException(405, "invalid_request_error", null, "method_not_allowed", 0, message);
  }

  static ApiException tooLarge(String message) {
    return new ApiException(413, "invalid_request_error", null, "request_too_large", 0, message);
  }

  static ApiException unsupported(String message) {
    return new ApiException(415, "invalid_request_error", null, "unsupported", 0, message);
  }

  static ApiException busy(int retrySeconds, String message) {
    return new ApiException(429, "rate_limit_error", null, "too_busy", retrySeconds, message);
  }

  static ApiException unavailable(String message) {
    return new ApiException(503, "unavailable_error", null, "unavailable", 0, message);
  }

  static ApiException fault() {
    return new ApiException(
        500, "server_error", null, null, 0, "the server has a fault, which is not your request's");
  }

  int status() {
    return status;
  }

  String type() {
    return type;
  }

  @Nullable String param() {
    return param;
  }

  @Nullable String code() {
    return code;
  }

  /// Seconds after which to ask again; 0 where nothing is said of that.
  int retrySeconds() {
    return retrySeconds;
  }

  String sentence() {
    return String.valueOf(getMessage());
  }
}
