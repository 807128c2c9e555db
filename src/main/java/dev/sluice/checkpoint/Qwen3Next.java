package dev.sluice.checkpoint;

import dev.sluice.decoder.MixerConfig;
import java.util.List;
import java.util.Set;
import tools.jackson.databind.node.ObjectNode;

/// Qwen3-Next (`configuration_qwen3_next.py`, `modeling_qwen3_next.py`): the projections of a
/// DeltaNet layer stand in two matrices, key head by key head.
final class Qwen3Next extends QwenHybrid {
  private static final String TYPE = "qwen3_next";
  private static final Defaults DEFAULTS = new Defaults(151_936, 2048, 512, 48, 16, 2, 512, 10);
  private static final String LINEAR = "linear_attn.";

  @Override
  public Set<String> modelTypes() {
    return Set.of(TYPE);
  }

  @Override
  public Set<String> architectures() {
    return Set.of("Qwen3NextForCausalLM", "Qwen3NextModel");
  }

  @Override
  public Set<String> skipped() {
    return Set.of("mtp.");
  }

  @Override
  public ModelConfig read(ConfigReader config) {
    return config.model(
        read(config, DEFAULTS, config.sparseLayers(), true), this, GatePacking.QUERY_HEAD);
  }

  @Override
  public void write(ModelConfig model, ObjectNode json) {
    ConfigWriter.head(json, "Qwen3NextForCausalLM", TYPE);
    write(model.decoder(), json);
    ConfigWriter.sparseLayers(json, model.decoder());
  }

  @Override
  public List<Placement> places(ModelConfig model, Parameter parameter) {
    String part = parameter.part();
    if (!part.startsWith(LINEAR + "in_proj_")) {
      return Placement.usual(model, parameter, parameter.name());
    }
    if (!(model.decoder().layers().get(parameter.layer()).mixer()
        instanceof MixerConfig.DeltaNet(var net))) {
      throw new IllegalStateException(parameter.name() + " is of no DeltaNet layer");
    }
    var rows = DeltaPacking.rows(net.heads(), part.substring(LINEAR.length()));
    return List.of(
        Placement.ofRows(
            parameter.beside(LINEAR + rows.stored()), rows.of(), net.hiddenSize(), rows.rows()));
  }
}
