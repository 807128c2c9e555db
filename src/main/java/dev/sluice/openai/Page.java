package dev.sluice.openai;

import dev.sluice.files.Sha256;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Objects;

/// The page on which one can talk with the model: one file that needs nothing else, and may run and
/// show nothing else.
final class Page {
  static final String TYPE = "text/html; charset=utf-8";

  private final String html;
  private final String policy;

  private Page(String html) {
    this.html = html;
    this.policy =
        "default-src 'none'; connect-src 'self'; script-src '%s'; style-src '%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            .formatted(hash("script"), hash("style"));
  }

  static Page read() {
    try (InputStream in = Page.class.getResourceAsStream("chat.html")) {
      return new Page(
          new String(Objects.requireNonNull(in).readAllBytes(), StandardCharsets.UTF_8));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  String html() {
    return html;
  }

  /// What a browser lets the page do.
  String policy() {
    return policy;
  }

  /// As a policy names what stands in an element.
  private String hash(String element) {
    int begin = html.indexOf("<" + element + ">") + element.length() + 2;
    String content = html.substring(begin, html.indexOf("</" + element + ">", begin));
    var digest = Sha256.digest();
    digest.update(content.getBytes(StandardCharsets.UTF_8));
    return "sha256-" + Base64.getEncoder().encodeToString(digest.digest());
  }
}
