package dev.sluice.ruler;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.ruler.StringMatch.Metric;
import java.util.Arrays;
import java.util.Locale;
import java.util.Optional;
import java.util.stream.Collectors;

/// RULER's 13 tasks.
public enum RulerTask {
  NIAH_SINGLE_1(128, Metric.ALL),
  NIAH_SINGLE_2(128, Metric.ALL),
  NIAH_SINGLE_3(128, Metric.ALL),
  NIAH_MULTIKEY_1(128, Metric.ALL),
  NIAH_MULTIKEY_2(128, Metric.ALL),
  NIAH_MULTIKEY_3(128, Metric.ALL),
  NIAH_MULTIVALUE(128, Metric.ALL),
  NIAH_MULTIQUERY(128, Metric.ALL),
  VT(30, Metric.ALL),
  CWE(120, Metric.ALL),
  FWE(50, Metric.ALL),
  QA_1(32, Metric.PART),
  QA_2(32, Metric.PART);

  private final int newTokens;
  private final Metric metric;

  RulerTask(int newTokens, Metric metric) {
    this.newTokens = newTokens;
    this.metric = metric;
  }

  /// NVIDIA's name.
  public String word() {
    return name().toLowerCase(Locale.ROOT);
  }

  /// How many tokens a model may answer with.
  public int newTokens() {
    return newTokens;
  }

  public Metric metric() {
    return metric;
  }

  /// Whether it asks for a needle in a haystack, which lies at some depth.
  public boolean hasNeedle() {
    return word().startsWith("niah");
  }

  /// The task of a name, NVIDIA's or that of the port; empty where it is none.
  public static Optional<RulerTask> find(String word) {
    String own =
        switch (word) {
          case "ruler_vt" -> "vt";
          case "ruler_cwe" -> "cwe";
          case "ruler_fwe" -> "fwe";
          case "ruler_qa_squad" -> "qa_1";
          case "ruler_qa_hotpot" -> "qa_2";
          default -> word;
        };
    return Arrays.stream(values()).filter(task -> task.word().equals(own)).findFirst();
  }

  /// @throws InvalidInputException if there is no such task
  public static RulerTask parse(String word) {
    return find(word)
        .orElseThrow(
            () ->
                new InvalidInputException(
                    "unknown task '%s'; use %s"
                        .formatted(
                            Printable.brief(word, 60),
                            Arrays.stream(values())
                                .map(RulerTask::word)
                                .collect(Collectors.joining(", ")))));
  }
}
