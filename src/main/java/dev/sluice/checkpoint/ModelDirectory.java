package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.attention.Attention;
import dev.sluice.checkpoint.Family.Parameter;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.gate.GatePosition;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// A model as a Hugging Face directory, `config.json` and `model.safetensors` (or shards), or, for
/// reading, as a GGUF file.
public final class ModelDirectory {
  static final String QUERY = "self_attn.q_proj.weight";
  static final String KEY = "self_attn.k_proj.weight";
  static final String VALUE = "self_attn.v_proj.weight";
  static final String GATE = "self_attn." + Attention.gateName(GatePosition.SDPA_OUTPUT) + "weight";

  private ModelDirectory() {}

  // ---------------------------------------------------------------- reading

  /// A model, and what its user has to know of how it was read.
  ///
  /// @param config the file's
  /// @param notes sentences: what was not given, not used, or decided between
  public record Opened(Decoder decoder, ModelConfig config, List<String> notes) {
    public Opened {
      notes = notes.stream().map(Printable::line).toList();
    }

    /// The weights under the names and in the packing of the family that they were read as, on the
    /// CPU; the caller's scope holds what is new.
    public Map<String, Tensor> packed() {
      return packed(Set.of());
    }

    /// The same under these names where the family has several.
    public Map<String, Tensor> packed(Set<String> names) {
      return ModelDirectory.packed(decoder.parameters(), config, names);
    }
  }

  /// Reads a model; weights become float32, gates packed into `q_proj` become weights of their own.
  /// Names may be wrapped as [StoredWeights] says, experts be one tensor of a layer or many.
  ///
  /// @param directory or a GGUF file, or a directory that holds one ([GgufModel#at])
  /// @param requireGradients whether the model is to be trained
  public static Opened open(
      Path directory, Precision precision, Device device, boolean requireGradients) {
    if (precision == Precision.INT8) {
      throw new IllegalArgumentException("precision int8 is for models that are opened in place");
    }
    Path gguf = GgufModel.at(directory);
    if (gguf != null) {
      try (var model = GgufModel.open(gguf);
          var _ = Scope.withoutGradient()) {
        var reader = model.reader();
        var parameters = read(reader, device, requireGradients);
        return opened(reader, model.config(), model.notes(), precision, device, parameters);
      }
    }
    var config = ModelConfig.read(directory);
    try (var files = SafetensorsDirectory.open(directory);
        var _ = Scope.withoutGradient()) {
      var reader = new WeightReader(directory, config, StoredWeights.of(files, config));
      var parameters = read(reader, device, requireGradients);
      return opened(reader, config, files.notes(), precision, device, parameters);
    } catch (InvalidInputException e) {
      throw withNotes(config, e);
    }
  }

  private static Parameters read(ParameterReader reader, Device device, boolean requireGradients) {
    var parameters = new Parameters(reader.decoder().parameters(), reader.read(device));
    parameters.requireGradients(requireGradients);
    return parameters;
  }

  /// Opens a model to run it, on the CPU: matrices stay where the file is mapped, as they are, and
  /// are read while the model runs; those that were quantized for Hugging Face stay in as many
  /// bits, in memory of their own, as do those whose rows stand elsewhere than products want them.
  /// It can neither be trained nor written.
  ///
  /// @param directory as for [#open]
  public static Opened openInPlace(Path directory, Precision precision) {
    return openInPlace(directory, precision, null, false, Conversion.Listener.NOBODY);
  }

  /// The same with matrices of fewer bits: those that map features to features, and those with a
  /// row for each token, are rounded as they are read. Gates of one number a head, routers,
  /// convolutions, norms and decays stay.
  ///
  /// @param weights `q8_0` and so on; null leaves all as it is
  /// @param drafts whether the head that drafts tokens is read too, for a
  ///   [dev.sluice.decoder.MultiTokenPrediction]
  /// @param listener hears how far the rounding is
  /// @throws InvalidInputException if no such format is made, or there is no such head
  public static Opened openInPlace(
      Path directory,
      Precision precision,
      @Nullable String weights,
      boolean drafts,
      Conversion.Listener listener) {
    var rounded = weights == null ? null : new RoundedMatrices(WeightFormat.toMake(weights));
    Path gguf = GgufModel.at(directory);
    try {
      return gguf == null
          ? directoryInPlace(directory, precision, rounded, drafts, listener)
          : ggufInPlace(gguf, precision, rounded, drafts, listener);
    } catch (RuntimeException | Error e) {
      if (rounded != null) {
        rounded.close();
      }
      throw e;
    }
  }

  private static Opened ggufInPlace(
      Path gguf,
      Precision precision,
      @Nullable RoundedMatrices rounded,
      boolean drafts,
      Conversion.Listener listener) {
    var packed = new PackedMatrices(precision);
    var model = GgufModel.open(gguf);
    try (var _ = Scope.withoutGradient()) {
      var reader = model.readerInPlace(drafts);
      var weights = reader.readInPlace(rounded, packed, listener);
      model.file().forgetMetadata();
      var notes = new ArrayList<>(model.notes());
      return opened(
          reader,
          model.config(),
          notes,
          precision,
          Device.CPU,
          new Parameters(weights, closing(model::close, rounded, packed, notes)));
    } catch (RuntimeException | Error e) {
      packed.close();
      model.close();
      throw e;
    }
  }

  private static Opened directoryInPlace(
      Path directory,
      Precision precision,
      @Nullable RoundedMatrices rounded,
      boolean drafts,
      Conversion.Listener listener) {
    var config = ModelConfig.read(directory);
    var packed = new PackedMatrices(precision);
    var files = SafetensorsDirectory.open(directory);
    try (var _ = Scope.withoutGradient()) {
      var stored = StoredWeights.of(files, config, drafts);
      var reader = new WeightReader(directory, config, stored, drafts);
      var weights = reader.readInPlace(rounded, packed, listener);
      var notes = new ArrayList<>(files.notes());
      return opened(
          reader,
          config,
          notes,
          precision,
          Device.CPU,
          new Parameters(weights, closing(files::close, rounded, packed, notes)));
    } catch (InvalidInputException e) {
      packed.close();
      files.close();
      throw withNotes(config, e);
    } catch (RuntimeException | Error e) {
      packed.close();
      files.close();
      throw e;
    }
  }

  /// Tells what was rounded.
  ///
  /// @return what frees the memory behind the weights
  private static Runnable closing(
      Runnable files,
      @Nullable RoundedMatrices rounded,
      PackedMatrices packed,
      List<String> notes) {
    if (rounded != null) {
      notes.add(rounded.note());
    }
    return () -> {
      files.run();
      packed.close();
      if (rounded != null) {
        rounded.close();
      }
    };
  }

  /// @param filed what is to be told of the files
  private static Opened opened(
      ParameterReader reader,
      ModelConfig config,
      List<String> filed,
      Precision precision,
      Device device,
      Parameters parameters) {
    var notes = new ArrayList<>(config.notes());
    notes.addAll(filed);
    notes.addAll(reader.notes());
    return new Opened(
        new Decoder(reader.decoder(), precision, device, parameters),
        config.with(reader.decoder()),
        notes);
  }

  private static InvalidInputException withNotes(ModelConfig config, InvalidInputException e) {
    return config.notes().isEmpty()
        ? e
        : new InvalidInputException(
            "%s (%s)".formatted(e.getMessage(), String.join("; ", config.notes())), e);
  }

  /// [#open] for those who know what the directory holds, as a run knows its checkpoints.
  public static Decoder load(
      Path directory, Precision precision, Device device, boolean requireGradients) {
    return open(directory, precision, device, requireGradients).decoder();
  }

  // ---------------------------------------------------------------- writing

  /// Writes `config.json` and `model.safetensors` into an existing directory.
  public static void write(Path directory, Decoder decoder) throws IOException {
    try (var _ = Scope.withoutGradient()) {
      write(directory, decoder.config(), packed(decoder), null);
    }
  }

  /// Writes a model as the family has it that it was read as.
  public static void write(Path directory, Opened model) throws IOException {
    try (var _ = Scope.withoutGradient()) {
      write(directory, model.config(), model.packed(), null);
    }
  }

  /// Writes weights that [#packed] gave, or copies of them, into an existing directory.
  ///
  /// @param endToken the id of the token that ends a text; null where nobody knows it
  /// @throws IllegalStateException if a weight is NaN or infinite: no such model is ever saved
  public static void write(
      Path directory, DecoderConfig config, Map<String, Tensor> packed, @Nullable Integer endToken)
      throws IOException {
    write(directory, ModelConfig.of(config), packed, endToken);
  }

  private static void write(
      Path directory, ModelConfig config, Map<String, Tensor> packed, @Nullable Integer endToken)
      throws IOException {
    var entries = entries("", packed);
    requireFinite(entries);
    config.write(directory, endToken);
    SafetensorsWriter.write(
        directory.resolve(SafetensorsDirectory.SINGLE), Map.of("format", "pt"), entries);
  }

  private static void requireFinite(List<Entry> entries) {
    for (Entry entry : entries) {
      long other = FiniteNumbers.firstOther(entry.data(), entry.type());
      if (other >= 0) {
        throw new IllegalStateException(
            "the weight '%s' is NaN or infinite at %s; it is not saved"
                .formatted(entry.name(), StoredWeights.index(other, entry.shape())));
      }
    }
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

  /// The weights under the names and in the packing of the file that [#write] would write, on the
  /// CPU; the caller's scope holds what is new.
  public static Map<String, Tensor> packed(Decoder decoder) {
    return packed(decoder.parameters(), ModelConfig.of(decoder.config()), Set.of());
  }

  /// The same as another configuration has it.
  ///
  /// @param names that are taken where there is a choice
  static Map<String, Tensor> packed(Parameters parameters, ModelConfig model, Set<String> names) {
    Map<String, Tensor> packed = new LinkedHashMap<>();
    Map<String, Long> filled = new HashMap<>();
    var specs = model.decoder().parameters();
    parameters
        .all()
        .forEach(
            (name, tensor) -> {
              var spec = Objects.requireNonNull(specs.get(name), name);
              var places = model.family().places(model, Parameter.of(name, spec));
              var place =
                  places.stream()
                      .filter(each -> names.contains(each.tensor()))
                      .findFirst()
                      .orElse(places.getFirst());
              var weights = tensor.detach().to(Device.CPU).contiguous();
              if (place.isWhole(weights.elements())) {
                packed.put(
                    place.tensor(),
                    Arrays.equals(weights.shape(), place.shape())
                        ? weights
                        : weights.reshape(place.shape()));
                return;
              }
              var stored =
                  packed.computeIfAbsent(
                      place.tensor(), _ -> Tensor.zeros(ElementType.FLOAT32, place.shape()));
              place.write(weights, stored);
              filled.merge(place.tensor(), weights.elements(), Long::sum);
            });
    filled.forEach((name, elements) -> requireFull(packed.get(name), name, elements));
    return packed;
  }

  private static void requireFull(@Nullable Tensor stored, String name, long filled) {
    if (stored == null || stored.elements() != filled) {
      throw new IllegalStateException(
          "%d numbers were put into %s of %s".formatted(filled, name, stored));
    }
  }
}
