package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.ActivationMemory;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Recompute;
import dev.sluice.provenance.RunManifest;
import dev.sluice.settings.Settings;
import dev.sluice.tensor.Device;
import dev.sluice.tokenizer.Tokenizer;
import java.util.Locale;
import java.util.Set;
import java.util.function.Predicate;

/// Whether a run can be trained here, which is asked before anything is written.
public final class Trainable {
  private Trainable() {}

  /// Refuses what cannot be trained, before anything is written: a gate, shape, schedule, precision
  /// or device that is not known or not there, a tokenizer without a token that ends documents,
  /// sequences too long for a made text, a model or batch that this machine cannot hold, and a last
  /// sample that would not fit.
  ///
  /// @param ranks that share the batch
  public static void require(RunConfig config, Tokenizer tokenizer, int ranks) {
    var shape = config.decoder(config.vocabulary(tokenizer));
    if (config.start().isGiven()) {
      StartCheckpoint.of(config).requireTokenizer(tokenizer);
    }
    config.start().require(config.optimization().steps());
    requirePenalised(config.start(), shape);
    requireRecomputed(config, shape);
    var _ = config.optimization().scheduleOf();
    var _ = config.optimization().optimizerSettings();
    var _ = tokenizer.endOfText(); // a corpus needs it
    RunCorpus.requireLength(config);
    if (config.computing().deviceOf().equals(Device.CPU)) {
      requireMemory(config, shape, ranks);
    }
    int longest = shape.context();
    long sample =
        (long) config.batch().windowRule().prompt(config.samples().samplePrompt(), tokenizer).length
            + config.samples().sampleTokens();
    if (config.samples().sampleTokens() > 0 && sample > longest) {
      throw new InvalidInputException(
          "sample_prompt and sample_tokens come to %d tokens, more than the model's context of %d; ask for fewer"
              .formatted(sample, longest));
    }
  }

  /// A penalty on a layer that is not there would be none.
  private static void requirePenalised(StartSettings start, DecoderConfig shape) {
    boolean hasAttention = shape.layers().stream().anyMatch(layer -> layer.attention().isPresent());
    Settings.require(
        start.firstTokenPenalty() == 0 || hasAttention,
        "first_token_penalty",
        start.firstTokenPenalty(),
        "no layer of the model has attention: leave it out");
    requireLayers("first_token_layers", start.layersOfFirstToken(), shape, true);
    requireLayers("activation_layers", start.layersOfActivations(), shape, false);
  }

  private static void requireLayers(
      String setting, Set<Integer> named, DecoderConfig shape, boolean withAttention) {
    var layers = shape.layers();
    for (int layer : named) {
      boolean there = layer < layers.size();
      if (!there || (withAttention && layers.get(layer).attention().isEmpty())) {
        throw new InvalidInputException(
            "%s names layer %d, %s; name others"
                .formatted(
                    setting,
                    layer,
                    there
                        ? "which has no attention"
                        : "and the model has %d, from 0 on".formatted(layers.size())));
      }
    }
  }

  /// What a step takes from a block besides its result is there at the first of its passes alone.
  private static void requireRecomputed(RunConfig config, DecoderConfig shape) {
    if (config.computing().recomputeOf() == Recompute.NONE) {
      return;
    }
    if (shape.layers().stream().anyMatch(layer -> layer.feedForward().experts().count() > 0)) {
      throw new InvalidInputException(
          "recompute = blocks does not go with experts, whose balance is counted in the forward"
              + " pass; use recompute = none");
    }
    if (config.start().changesSteps()) {
      throw new InvalidInputException(
          "recompute = blocks does not go with training from a checkpoint, gates that are taken up"
              + " slowly, or a penalty, which look into each pass; use recompute = none");
    }
  }

  /// Which parameters training ever moves.
  static Predicate<String> moving(RunConfig config, DecoderConfig shape) {
    return config.start().isAlwaysFrozen()
        ? StartCheckpoint.of(config).added(shape)::contains
        : _ -> true;
  }

  /// A system that promises more memory than it has ends the process when that is used, without a
  /// word; so what is needed in any case is counted before.
  private static void requireMemory(RunConfig config, DecoderConfig shape, int ranks) {
    // weights, and what moves: gradients, and the moments where no other rank has a share of them
    double model = shape.parameterCount() * (double) Float.BYTES;
    var kind = config.optimization().optimizerSettings().kind();
    boolean whole = ranks == 1 || config.batch().zero() == 0;
    var moving = moving(config, shape);
    for (var named : shape.parameters().entrySet()) {
      if (moving.test(named.getKey())) {
        model += named.getValue().elements() * (double) Float.BYTES;
        model += whole ? kind.momentBytes(named.getValue()) : 0;
      }
    }
    if (config.start().needsParent()) {
      model += StartCheckpoint.of(config).parent().parameterCount() * (double) Float.BYTES;
    }
    double activations =
        ActivationMemory.bytesPerToken(
                shape,
                config.computing().precisionOf().elementType(),
                config.computing().recomputeOf())
            * config.batch().sequenceLength()
            * Math.ceilDiv(config.batch().batchSize(), ranks);
    double there = RunManifest.Machine.current().memoryBytes();
    if (model + activations > there) {
      throw new InvalidInputException(
          String.format(
              Locale.ROOT,
              "training takes at least %.3g GB (model %.3g GB, activations %.3g GB) and this"
                  + " machine has %.3g GB; make the model, batch_size or sequence_length smaller,"
                  + " or recompute blocks, as ./sluice plan counts",
              (model + activations) / 1e9,
              model / 1e9,
              activations / 1e9,
              there / 1e9));
    }
  }
}
