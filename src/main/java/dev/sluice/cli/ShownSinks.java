package dev.sluice.cli;

import dev.sluice.report.Numbers;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/// The newest first-token attention of a run, for its progress line.
final class ShownSinks {
  private @Nullable Double firstToken;

  void measured(Map<String, Double> sinks) {
    firstToken = sinks.get("first_token_attention");
  }

  /// The line's other parts, and after them the attention to the first token once it was measured.
  List<String> beside(List<String> parts) {
    var shown = firstToken;
    return shown == null
        ? parts
        : Stream.concat(
                parts.stream(),
                Stream.of("first token " + Numbers.fixed(100 * shown, 1) + " % of attention"))
            .toList();
  }
}
