package dev.sluice.decoder;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.operations.DocumentStarts;
import dev.sluice.operations.Operations;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.training.RunConfig;
import dev.sluice.training.StepProfile;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Blocks whose forward pass runs again: the same bits, and less that is kept.
class RecomputeTest {
  private static final int T = 40;
  private static final int ROWS = 2;

  @BeforeEach
  void poison() {
    Libtorch.poisonUninitialized(true);
  }

  @AfterEach
  void stopPoisoning() {
    Libtorch.poisonUninitialized(false);
  }

  private static DecoderConfig config(String more) {
    var settings =
        new HashMap<>(
            Map.of(
                "hidden_size", "32",
                "intermediate_size", "48",
                "layers", "4",
                "attention_heads", "4",
                "key_value_heads", "2",
                "head_dim", "8",
                "gate", "sdpa-elementwise"));
    for (String pair : more.equals("plain") ? new String[0] : more.split(" ")) {
      settings.put(pair.split("=")[0], pair.split("=")[1]);
    }
    return RunConfig.from(null, settings).decoder(48);
  }

  /// The loss and all gradients, of a decoder whose blocks are recomputed or not.
  private static Map<String, double[]> differentiated(
      DecoderConfig config,
      Precision precision,
      Recompute recompute,
      boolean frozen,
      boolean byDocument) {
    Map<String, double[]> all = new LinkedHashMap<>();
    try (var decoder = Decoder.initialize(config, precision, Device.CPU, 3)) {
      decoder.recompute(recompute);
      if (frozen) { // only the gates move, as in a retrofit's beginning
        decoder
            .parameters()
            .all()
            .forEach((name, tensor) -> tensor.requireGradient(name.contains("gates")));
      }
      long[] ids = new Random(4).longs((long) ROWS * (T + 1), 0, 48).toArray();
      for (int micro = 0; micro < 2; micro++) { // gradients of the second are added
        try (var _ = Scope.open()) {
          var batch = Tensor.of(ids, ROWS, T + 1L);
          var documents =
              byDocument ? DocumentStarts.of(ids, ROWS, T + 1, T, OptionalInt.of(7)) : null;
          if (documents != null) {
            documents.bring(batch);
          }
          var loss =
              decoder.loss(
                  batch.narrow(1, 0, T),
                  batch.narrow(1, 1, T),
                  documents,
                  new ExpertLoad(),
                  Probe.NONE,
                  1e-4);
          loss.total().backward();
          all.put("loss " + micro, new double[] {loss.total().item()});
        }
      }
      decoder
          .parameters()
          .all()
          .forEach(
              (name, tensor) -> {
                var gradient = tensor.gradient();
                assertEquals(tensor.requiresGradient(), gradient != null, name);
                if (gradient != null) {
                  all.put(name, gradient.doubles());
                }
              });
    }
    return all;
  }

  @ParameterizedTest
  @CsvSource({
    "plain,false,false",
    "plain,true,true",
    "layers_pattern=gdn;attention,false,true",
    "sandwich_norm=true residual_clip=5 gated_norm_rank=4,false,false",
    "softmax_sink=learned sliding_window=9 layers_pattern=sliding,true,false",
    "gate=query-headwise+dense-elementwise+sdpa-headwise,false,false"
  })
  void theSameBits(String more, boolean frozen, boolean byDocument) {
    var config = config(more.replace(';', ','));
    for (var precision : List.of(Precision.FLOAT32, Precision.BFLOAT16)) {
      for (var operations : List.of(Operations.FUSED, Operations.LIBTORCH)) {
        ScopedValue.where(Operations.INSTEAD, operations)
            .run(
                () -> {
                  var kept = differentiated(config, precision, Recompute.NONE, frozen, byDocument);
                  var again =
                      differentiated(config, precision, Recompute.BLOCKS, frozen, byDocument);
                  assertEquals(kept.keySet(), again.keySet());
                  kept.forEach(
                      (name, numbers) ->
                          assertArrayEquals(numbers, again.get(name), precision + " " + name));
                });
      }
    }
  }

  /// What is not trained takes the usual way: the same hidden states, and a cache goes on.
  @Test
  void onlyTrainingPassesAreOthers() {
    try (var decoder = Decoder.initialize(config("plain"), Precision.FLOAT32, Device.CPU, 3);
        var _ = Scope.open()) {
      decoder.recompute(Recompute.BLOCKS);
      var ids = Tensor.of(new long[] {1, 2, 3}, 1, 3);
      var watching = new Probe() {};
      try (var _ = Scope.withoutGradient()) {
        assertArrayEquals(
            decoder.hiddenStates(ids, null, Probe.NONE).floats(),
            decoder.hiddenStates(ids, null, watching).floats());
      }
      assertThrows(IllegalStateException.class, () -> decoder.hiddenStates(ids, null, watching));
    }
  }

  /// Every block runs again: the results of its operations are made a second time.
  @Test
  void blocksRunAgain() {
    double[] results = new double[2];
    for (var recompute : Recompute.values()) {
      results[recompute.ordinal()] =
          StepProfile.record(
                  1,
                  () -> differentiated(config("plain"), Precision.FLOAT32, recompute, false, false))
              .traffic()
              .results();
    }
    assertTrue(results[1] > 1.2 * results[0], results[0] + " and " + results[1]);
  }

  @Test
  void expertsAreRefused() {
    try (var decoder =
        Decoder.initialize(
            config("experts=4 experts_per_token=2"), Precision.FLOAT32, Device.CPU, 3)) {
      assertThrows(IllegalArgumentException.class, () -> decoder.recompute(Recompute.BLOCKS));
      decoder.recompute(Recompute.NONE);
    }
  }

  @Test
  void namesAreReadBack() {
    assertEquals(Recompute.BLOCKS, Recompute.parse("blocks"));
    assertEquals(Recompute.NONE, Recompute.parse("none"));
    assertTrue(
        assertThrows(InvalidInputException.class, () -> Recompute.parse("all"))
            .getMessage()
            .contains("'all'"));
  }

  /// Of a block goes in the stream, float32, and what is added to it; besides that one block's.
  @Test
  void lessIsKept() {
    var four = config("plain");
    var eight = config("layers=8");
    double ofFour = ActivationMemory.bytesPerToken(four, ElementType.BFLOAT16, Recompute.BLOCKS);
    double ofEight = ActivationMemory.bytesPerToken(eight, ElementType.BFLOAT16, Recompute.BLOCKS);
    assertEquals(4 * (4 + 2) * 32, ofEight - ofFour);
    double all = ActivationMemory.bytesPerToken(eight, ElementType.BFLOAT16, Recompute.NONE);
    assertTrue(ofEight < 0.5 * all, ofEight + " of " + all);
  }
}
