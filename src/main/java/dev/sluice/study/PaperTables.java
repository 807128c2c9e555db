package dev.sluice.study;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.DecoderConfig;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.OptionalDouble;

/// The rows of the paper's tables (arXiv 2505.06708) as variants of any base model, with the
/// perplexities that the paper prints.
///
/// Rows that add heads add as many as the paper does in proportion: twice the key/value heads, half
/// as many query heads again.
public final class PaperTables {
  private PaperTables() {}

  /// The variants of a table, the baseline first.
  ///
  /// @param number 1 for the positions and kinds of gates, 2 for dense models, 3 for
  ///   non-linearities, 4 for sparsity and sinks, 6 for heads switched among experts
  /// @param base the model whose heads are counted from
  public static List<Variant> table(int number, DecoderConfig base) {
    return switch (number) {
      case 1 -> table1(base);
      case 2 -> table2();
      case 3 -> table3();
      case 4 -> table4();
      case 6 -> table6();
      default ->
          throw new InvalidInputException(
              "there is no table " + number + " to study; use 1, 2, 3, 4 or 6");
    };
  }

  private static final Map<String, Double> ADDED_MILLIONS =
      Map.ofEntries(
          Map.entry("baseline", 0.0),
          Map.entry("more key/value heads", 50.0),
          Map.entry("more query heads", 201.0),
          Map.entry("four more experts", 400.0),
          Map.entry("SDPA elementwise", 201.0),
          Map.entry("value elementwise", 25.0),
          Map.entry("key elementwise", 25.0),
          Map.entry("query elementwise", 201.0),
          Map.entry("dense output", 100.0),
          Map.entry("SDPA headwise", 1.6),
          Map.entry("value headwise", 0.2),
          Map.entry("SDPA elementwise, head-shared", 201.0),
          Map.entry("value elementwise, head-shared", 25.0),
          Map.entry("SDPA additive SiLU", 201.0),
          Map.entry("SDPA multiplicative SiLU", 201.0),
          Map.entry("switch key/value, 8 choose 8", 38.0),
          Map.entry("switch key/value, 4 choose 4", 13.0),
          Map.entry("switch value, 4 choose 4", 13.0),
          Map.entry("switch value, 8 choose 2", 25.0),
          Map.entry("switch value, 1 choose 1", 3.0));

  /// The parameters, in millions, that tables 1 and 6 say a variant adds to the 15A2B model.
  public static OptionalDouble addedMillions(String variant) {
    var added = ADDED_MILLIONS.get(variant);
    return added == null ? OptionalDouble.empty() : OptionalDouble.of(added);
  }

  private static final Variant BASELINE = gate("baseline", "none", 6.026);
  private static final Variant ELEMENTWISE = gate("SDPA elementwise", "sdpa-elementwise", 5.761);
  private static final Variant HEADWISE = gate("SDPA headwise", "sdpa-headwise", 5.792);
  private static final Variant SHARED =
      gate("SDPA elementwise, head-shared", "sdpa-elementwise-shared", 5.801);
  private static final Variant VALUE = gate("value elementwise", "value-elementwise", 5.820);
  private static final Variant ADDITIVE =
      gate("SDPA additive SiLU", "sdpa-elementwise-additive-silu", 5.821);

  /// 15A2B mixture of experts, 400 B tokens.
  private static List<Variant> table1(DecoderConfig base) {
    var attention =
        base.firstAttention()
            .orElseThrow(
                () ->
                    new InvalidInputException(
                        "the paper's table 1 varies attention, which no layer of this model has;"
                            + " add attention to layers_pattern"));
    var experts = base.layers().getLast().feedForward().experts();
    var variants = new ArrayList<Variant>();
    variants.add(BASELINE);
    if (attention.attentionHeads() % (2 * attention.keyValueHeads()) == 0) {
      int heads = 2 * attention.keyValueHeads();
      variants.add(
          new Variant(
              "more key/value heads",
              Map.of("gate", "none", "key_value_heads", String.valueOf(heads)),
              5.979));
    }
    int more = attention.attentionHeads() * 3 / 2;
    if (attention.attentionHeads() % 2 == 0 && more % attention.keyValueHeads() == 0) {
      variants.add(
          new Variant(
              "more query heads",
              Map.of("gate", "none", "attention_heads", String.valueOf(more)),
              5.953));
    }
    if (experts.count() > 0) {
      variants.add(
          new Variant(
              "four more experts",
              Map.of("gate", "none", "experts", String.valueOf(experts.count() + 4)),
              5.964));
    }
    variants.add(ELEMENTWISE);
    variants.add(VALUE);
    variants.add(gate("key elementwise", "key-elementwise", 6.016));
    variants.add(gate("query elementwise", "query-elementwise", 5.981));
    variants.add(gate("dense output", "dense-elementwise", 6.017));
    variants.add(HEADWISE);
    variants.add(gate("value headwise", "value-headwise", 5.808));
    variants.add(SHARED);
    variants.add(gate("value elementwise, head-shared", "value-elementwise-shared", 5.867));
    variants.add(ADDITIVE);
    variants.add(gate("SDPA multiplicative SiLU", "sdpa-elementwise-silu", 5.822));
    return variants;
  }

  /// 1.7 B dense with 48 layers at 400 B tokens; at the larger learning rate the paper's baseline
  /// has trouble (9.195).
  private static List<Variant> table2() {
    return List.of(
        gate("baseline", "none", 7.421),
        new Variant("sandwich norm", Map.of("gate", "none", "sandwich_norm", "true"), 7.407),
        gate("SDPA elementwise", "sdpa-elementwise", 7.288),
        gate("SDPA headwise", "sdpa-headwise", 7.370));
  }

  private static List<Variant> table3() {
    return List.of(
        BASELINE,
        ELEMENTWISE,
        VALUE,
        ADDITIVE,
        new Variant(
            "SDPA GroupNorm", Map.of("gate", "none", "sdpa_nonlinearity", "rms-norm"), 5.847),
        new Variant("SDPA SiLU", Map.of("gate", "none", "sdpa_nonlinearity", "silu"), 5.975),
        gate("SDPA additive identity", "sdpa-elementwise-additive-identity", 5.882));
  }

  private static List<Variant> table4() {
    return List.of(
        BASELINE,
        ELEMENTWISE,
        HEADWISE,
        SHARED,
        VALUE,
        gate("SDPA input-independent", "sdpa-elementwise-input-independent", 5.917),
        gate("SDPA elementwise, NS-sigmoid", "sdpa-elementwise-ns-sigmoid", 5.900));
  }

  /// The paper's counts of parameters do not say how many experts there are in all. Here each
  /// key/value head has that many.
  private static List<Variant> table6() {
    return List.of(
        BASELINE,
        switched("switch key/value, 8 choose 8", "key-value-8-choose-8", 5.847),
        switched("switch key/value, 4 choose 4", "key-value-4-choose-4", 5.935),
        switched("switch value, 4 choose 4", "value-4-choose-4", 5.820),
        switched("switch value, 8 choose 2", "value-8-choose-2", 5.870),
        switched("switch value, 1 choose 1", "value-1-choose-1", 5.808));
  }

  private static Variant switched(String name, String switchHead, double perplexity) {
    return new Variant(name, Map.of("gate", "none", "switch_head", switchHead), perplexity);
  }

  private static Variant gate(String name, String gate, double perplexity) {
    return new Variant(name, Map.of("gate", gate), perplexity);
  }
}
