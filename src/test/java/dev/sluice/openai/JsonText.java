package dev.sluice.openai;

/// Values as JSON.
final class JsonText {
  private JsonText() {}

  static String of(Object value) {
    return TestServer.JSON.writeValueAsString(value);
  }
}
