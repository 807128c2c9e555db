package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.Attention;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.gate.Gate;
import dev.sluice.gate.GatePosition;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Precision;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/// A model as a Hugging Face directory: `config.json` and `model.safetensors` (or shards).
public final class ModelDirectory {
  private static final String QUERY = "self_attn.q_proj.weight";
  private static final String GATE =
      "self_attn." + Attention.gateName(GatePosition.SDPA_OUTPUT) + "weight";

  private ModelDirectory() {}

  // ---------------------------------------------------------------- reading

  /// Loads a model; weights become float32, gates packed into `q_proj` become weights of their own.
  ///
  /// @param requireGradients whether the model is to be trained
  public static Decoder load(
      Path directory, Precision precision, Device device, boolean requireGradients) {
    var config = ModelConfig.read(directory);
    try (var files = SafetensorsDirectory.open(directory);
        var _ = Scope.withoutGradient()) {
      Map<String, Tensor> tensors = new LinkedHashMap<>();
      Set<String> used = new HashSet<>();
      config
          .decoder()
          .parameterShapes()
          .forEach(
              (name, shape) -> {
                var tensor = read(files, config, name, shape, used);
                requireFinite(directory, name, tensor);
                tensors.put(name, tensor.to(device));
              });
      refuseUnused(files, config.decoder(), used);
      var parameters = new Parameters(tensors);
      parameters.requireGradients(requireGradients);
      return new Decoder(config.decoder(), precision, device, parameters);
    }
  }

  private static Tensor read(
      SafetensorsDirectory files, ModelConfig config, String name, long[] shape, Set<String> used) {
    Gate gate = config.packedGate();
    if (gate == null || !(name.endsWith(QUERY) || name.endsWith(GATE))) {
      return plain(files, name, shape, used);
    }
    String packedName = name.replace(GATE, QUERY);
    long[] packedShape = {
      config.packing().queryProjectionRows(config.decoder(), gate.granularity()),
      config.decoder().hiddenSize()
    };
    var packed = plain(files, packedName, packedShape, used);
    long[] rows =
        name.endsWith(QUERY)
            ? config.packing().queryRows(config.decoder(), gate.granularity())
            : config.packing().gateRowsPacked(config.decoder(), gate.granularity());
    return packed.rows(Tensor.of(rows, rows.length));
  }

  private static Tensor plain(
      SafetensorsDirectory files, String name, long[] shape, Set<String> used) {
    if (!files.names().contains(name)) {
      throw new InvalidInputException(
          "the tensor '"
              + name
              + "' that "
              + files.path().resolve(ModelConfig.FILE)
              + " calls for is not in the weights; fetch the checkpoint again or correct the"
              + " config");
    }
    Entry entry = files.entry(name);
    long[] found = entry.shape().stream().mapToLong(Long::longValue).toArray();
    if (!Arrays.equals(found, shape)) {
      throw new InvalidInputException(
          "the tensor '"
              + name
              + "' has the shape "
              + Arrays.toString(found)
              + " where config.json calls for "
              + Arrays.toString(shape)
              + gateHint(name, found, shape)
              + "; correct the config or fetch the weights again");
    }
    if (!entry.type().isFloatingPoint()) {
      throw new InvalidInputException(
          "the tensor '"
              + name
              + "' has the type "
              + entry.type().safetensorsName()
              + " where a floating-point type is needed; convert the checkpoint to F32 or BF16");
    }
    used.add(name);
    return Tensor.of(entry.data(), entry.type(), shape).to(ElementType.FLOAT32);
  }

  private static String gateHint(String name, long[] found, long[] expected) {
    return name.endsWith(QUERY) && found.length == 2 && found[0] > expected[0]
        ? " (more rows look like a packed gate: say headwise_attn_output_gate or"
            + " elementwise_attn_output_gate, and gate_packing key_value_group or query_head,"
            + " since the shape alone does not tell)"
        : "";
  }

  private static void requireFinite(Path directory, String name, Tensor tensor) {
    if (!Double.isFinite(tensor.absolute().max().item())) {
      throw new InvalidInputException(
          "the tensor '"
              + name
              + "' in "
              + directory
              + " holds NaN or infinite values; use another checkpoint");
    }
  }

  private static void refuseUnused(
      SafetensorsDirectory files, DecoderConfig config, Set<String> used) {
    for (String name : files.names()) {
      boolean known =
          used.contains(name)
              || name.endsWith("rotary_emb.inv_freq")
              || (config.tieWordEmbeddings() && name.equals("lm_head.weight"));
      if (!known) {
        throw new InvalidInputException(
            "the weights in "
                + files.path()
                + " hold '"
                + name
                + "', which config.json does not call for; correct the config");
      }
    }
  }

  // ---------------------------------------------------------------- writing

  /// Writes `config.json` and `model.safetensors` into an existing directory.
  public static void write(Path directory, Decoder decoder) throws IOException {
    try (var _ = Scope.withoutGradient()) {
      write(directory, decoder.config(), packed(decoder));
    }
  }

  /// Writes weights that [#packed] gave, or copies of them, into an existing directory.
  public static void write(Path directory, DecoderConfig config, Map<String, Tensor> packed)
      throws IOException {
    ModelConfig.of(config).write(directory);
    SafetensorsWriter.write(
        directory.resolve(SafetensorsDirectory.SINGLE),
        Map.of("format", "pt"),
        entries("", packed));
  }

  /// What a file holds of float32 tensors on the CPU.
  ///
  /// @param prefix of every name in the file
  public static List<Entry> entries(String prefix, Map<String, Tensor> tensors) {
    return tensors.entrySet().stream()
        .map(
            named ->
                new Entry(
                    prefix + named.getKey(),
                    ElementType.FLOAT32,
                    Arrays.stream(named.getValue().shape()).boxed().toList(),
                    named.getValue().memory()))
        .toList();
  }

  /// The weights under the names and in the packing of the file, on the CPU; the caller's scope
  /// holds what is new.
  public static Map<String, Tensor> packed(Decoder decoder) {
    var config = ModelConfig.of(decoder.config());
    Gate gate = config.packedGate();
    Map<String, Tensor> packed = new LinkedHashMap<>();
    decoder
        .parameters()
        .all()
        .forEach(
            (name, tensor) -> {
              var weights = tensor.detach().to(Device.CPU).contiguous();
              if (gate == null || !(name.endsWith(QUERY) || name.endsWith(GATE))) {
                packed.put(name, weights);
              } else if (name.endsWith(QUERY)) {
                var gateWeights =
                    decoder.parameters().get(name.replace(QUERY, GATE)).detach().to(Device.CPU);
                packed.put(name, pack(config, gate, weights, gateWeights));
              }
            });
    return packed;
  }

  private static Tensor pack(ModelConfig config, Gate gate, Tensor query, Tensor gateWeights) {
    var decoder = config.decoder();
    int queryRows = decoder.attentionHeads() * decoder.headDim();
    long[] order = new long[config.packing().queryProjectionRows(decoder, gate.granularity())];
    for (int row = 0; row < queryRows; row++) {
      order[config.packing().queryRow(decoder, gate.granularity(), row)] = row;
    }
    for (int row = 0; row < order.length - queryRows; row++) {
      order[config.packing().gateRow(decoder, gate.granularity(), row)] = (long) queryRows + row;
    }
    return Tensor.concatenate(List.of(query, gateWeights), 0).rows(Tensor.of(order, order.length));
  }
}
