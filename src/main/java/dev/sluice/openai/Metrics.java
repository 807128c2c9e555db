package dev.sluice.openai;

import dev.sluice.serving.Engine;
import dev.sluice.serving.Histogram;
import java.util.Locale;

/// What an engine does and has done, as Prometheus reads it.
final class Metrics {
  static final String TYPE = "text/plain; version=0.0.4; charset=utf-8";

  private final StringBuilder text = new StringBuilder();

  private Metrics() {}

  /// @param faults of the server, which should be none
  static String of(Engine engine, long faults) {
    var counts = engine.counts();
    var metrics = new Metrics();
    metrics.counter(
        "prompt_tokens", "Tokens of prompts that were read.", counts.promptTokens.sum());
    metrics.counter(
        "cached_tokens",
        "Tokens of prompts that were not read, as they were kept.",
        counts.cachedTokens.sum());
    metrics.counter(
        "prompt_seconds", "Time in which prompts were read.", counts.promptSeconds.sum());
    metrics.counter("tokens_predicted", "Tokens that were written.", counts.generatedTokens.sum());
    metrics.counter(
        "tokens_predicted_seconds",
        "Time in which tokens were written.",
        counts.generationSeconds.sum());
    metrics.counter("decode_steps", "Passes with a token of some texts each.", counts.steps.sum());
    metrics.counter("requests", "Requests that were taken.", counts.requests.sum());
    metrics.counter(
        "requests_refused", "Requests for which the queue was full.", counts.refused.sum());
    metrics.counter(
        "requests_cancelled", "Requests whose client has gone.", counts.cancelled.sum());
    metrics.counter("requests_failed", "Requests that failed.", counts.failed.sum());
    metrics.counter("server_faults", "Answers that a fault of the server has ended.", faults);
    metrics.gauge("slots", "Texts that can be written at a time.", engine.limits().slots());
    metrics.gauge("slots_used", "Slots that are taken.", engine.usedSlots());
    metrics.gauge("requests_deferred", "Requests that wait until there is room.", engine.waiting());
    metrics.gauge("state_bytes", "Memory that is set aside for texts.", engine.usedBytes());
    metrics.gauge("state_bytes_limit", "The most of that memory.", engine.limits().memoryBytes());
    metrics.gauge(
        "prefix_cache_bytes", "Memory of beginnings that are kept.", engine.cachedBytes());
    metrics.histogram(
        "time_to_first_token_seconds",
        "From a request to its first token.",
        counts.firstTokenSeconds);
    metrics.histogram("inter_token_seconds", "From a token to the next.", counts.interTokenSeconds);
    return metrics.text.toString();
  }

  private void head(String name, String help, String type) {
    text.append("# HELP sluice_%s %s\n# TYPE sluice_%s %s\n".formatted(name, help, name, type));
  }

  private void value(String name, String labels, String value) {
    text.append("sluice_%s%s %s\n".formatted(name, labels, value));
  }

  private static String seconds(double value) {
    return String.format(Locale.ROOT, "%.6f", value);
  }

  private void counter(String name, String help, long value) {
    head(name + "_total", help, "counter");
    value(name + "_total", "", String.valueOf(value));
  }

  private void counter(String name, String help, double seconds) {
    head(name + "_total", help, "counter");
    value(name + "_total", "", seconds(seconds));
  }

  private void gauge(String name, String help, long value) {
    head(name, help, "gauge");
    value(name, "", String.valueOf(value));
  }

  private void histogram(String name, String help, Histogram histogram) {
    head(name, help, "histogram");
    int bounds = histogram.bounds().size();
    for (int i = 0; i <= bounds; i++) {
      String bound = i < bounds ? String.valueOf(histogram.bounds().get(i)) : "+Inf";
      value(name + "_bucket", "{le=\"%s\"}".formatted(bound), String.valueOf(histogram.upTo(i)));
    }
    value(name + "_sum", "", seconds(histogram.sum()));
    value(name + "_count", "", String.valueOf(histogram.upTo(bounds)));
  }
}
