package dev.sluice.checkpoint;

import dev.sluice.decoder.DecoderConfig;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/// The families of models that are read and written.
final class Families {
  /// In the order in which one is looked for that can write a model; [Sluice] can write what the
  /// others cannot.
  static final List<Family> ALL =
      List.of(
          new Qwen3(),
          new Qwen35(),
          new Qwen3Next(),
          new Afmoe(),
          new GptOss(),
          new Laguna(),
          new Step3(),
          new Sluice());

  private Families() {}

  /// The family that reads a `model_type`, or null.
  static @Nullable Family of(String modelType) {
    return ALL.stream()
        .filter(family -> family.modelTypes().contains(modelType))
        .findFirst()
        .orElse(null);
  }

  /// The first family that can write a model.
  static Family writing(DecoderConfig decoder) {
    return ALL.stream()
        .filter(family -> family.writes(decoder))
        .findFirst()
        .orElseThrow(
            () ->
                new IllegalStateException(
                    "no config.json says all that this model is: " + decoder.layers().getFirst()));
  }

  /// What all families have of a kind.
  static Set<String> all(Function<Family, Set<String>> kind) {
    Set<String> all = new TreeSet<>();
    ALL.forEach(family -> all.addAll(kind.apply(family)));
    return all;
  }
}
