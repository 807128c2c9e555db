package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.Family.Parameter;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.MultiTokenPrediction;
import dev.sluice.gguf.GgufFile;
import dev.sluice.gguf.GgufTensor;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.kernel.Threads;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.ParameterSpec;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.LongStream;
import org.jspecify.annotations.Nullable;

/// Reads the parameters of a model out of the tensors of its GGUF file.
final class GgufWeights implements ParameterReader {
  /// Numbers for which a thread is worth its start.
  private static final long GRAIN = 1 << 18;

  private static final Pattern BLOCK = Pattern.compile("blk\\.(\\d{1,9})\\..*");

  private final GgufFile file;
  private final GgufArchitecture architecture;
  private final DecoderConfig decoder;
  private final boolean drafts;

  /// The model's, with the block of a head that drafts where it is read too.
  private final ModelConfig config;

  private final Set<String> taken = new HashSet<>();
  private final List<String> notes = new ArrayList<>();

  /// @param drafts whether to read the head that drafts tokens too
  GgufWeights(GgufFile file, GgufArchitecture architecture, ModelConfig config, boolean drafts) {
    this.file = file;
    this.architecture = architecture;
    this.decoder = config.decoder();
    this.drafts = drafts;
    this.config = drafts ? config.with(MultiTokenPrediction.withBlock(decoder)) : config;
  }

  /// A parameter as it is stored, for those who compute with it where it lies.
  ///
  /// @param tensor the stored tensor, which may hold other parameters too
  /// @param place which of its elements are the parameter's
  /// @param values how the numbers differ from the parameter's
  record Stored(GgufTensor tensor, Placement place, GgufPlace.Values values) {
    WeightFormat format() {
      return tensor.format();
    }

    /// Whether the stored tensor is the parameter and nothing else, in its order and numbers.
    boolean isParameter(Parameter parameter) {
      return values == GgufPlace.Values.SAME && place.isWhole(parameter.spec().elements());
    }
  }

  @Override
  public DecoderConfig decoder() {
    return decoder;
  }

  @Override
  public Map<String, ParameterSpec> parameters() {
    return ParameterReader.parameters(decoder, drafts);
  }

  @Override
  public List<String> notes() {
    return notes;
  }

  // ---------------------------------------------------------------- parameters

  private GgufPlace place(Parameter parameter) {
    var places = GgufPlace.of(architecture, config, parameter);
    for (var each : places) {
      if (file.tensors().containsKey(each.place().tensor())) {
        return each;
      }
    }
    if (places.isEmpty()) {
      throw new InvalidInputException(
          "%s is a model whose parameter %s no file of the architecture %s has"
              .formatted(file.path(), Listing.quoted(parameter.name()), architecture.word()));
    }
    throw new InvalidInputException(
        "%s holds no tensor %s, which its metadata call for among its %d; fetch it again or convert the model anew"
            .formatted(
                file.path(),
                Listing.quoted(places.getFirst().place().tensor()),
                file.tensors().size()));
  }

  /// Where a parameter lies, once its tensor is known to have the shape that the model needs.
  Stored stored(Parameter parameter) {
    var place = place(parameter);
    var tensor = tensor(place.place());
    return new Stored(tensor, place.place(), place.values());
  }

  private GgufTensor tensor(Placement place) {
    var tensor = file.tensors().get(place.tensor());
    if (tensor == null) {
      throw new IllegalStateException(place.tensor());
    }
    taken.add(tensor.name());
    long[] found = tensor.shape().stream().mapToLong(Long::longValue).toArray();
    if (!Arrays.equals(withoutOnes(found), withoutOnes(place.shape()))) {
      throw new InvalidInputException(
          "the tensor %s in %s has the shape %s where the metadata call for %s; fetch the file again or convert the model anew"
              .formatted(
                  Listing.quoted(tensor.name()),
                  file.path(),
                  Arrays.toString(found),
                  Arrays.toString(place.shape())));
    }
    return tensor;
  }

  /// Files leave out dimensions of one, or do not.
  private static long[] withoutOnes(long[] shape) {
    return LongStream.of(shape).filter(each -> each != 1).toArray();
  }

  @Override
  public @Nullable StoredMatrix inPlace(Parameter parameter, @Nullable PackedMatrices copies) {
    var stored = stored(parameter);
    return stored.values() == GgufPlace.Values.SAME
        ? stored
            .place()
            .stored(stored.format(), stored.tensor().data(), parameter.spec().shape(), copies)
        : null;
  }

  @Override
  public @Nullable WeightFormat format(Parameter parameter) {
    var stored = stored(parameter);
    return stored.values() == GgufPlace.Values.SAME ? stored.format() : null;
  }

  @Override
  public Tensor read(Parameter parameter) {
    var place = place(parameter);
    var stored = tensor(place.place());
    var tensor = ParameterReader.uninitialized(parameter.spec().shape());
    place.place().read((first, to) -> dequantize(stored, first, to), tensor);
    long other = FiniteNumbers.firstOther(tensor.memory(), ElementType.FLOAT32);
    if (other >= 0) {
      throw notFinite(parameter, stored, other, "NaN or infinite");
    }
    other = place.restore(tensor);
    if (other >= 0) {
      throw notFinite(parameter, stored, other, "not below zero, as −exp(A_log) is,");
    }
    return tensor;
  }

  private InvalidInputException notFinite(
      Parameter parameter, GgufTensor stored, long at, String what) {
    return new InvalidInputException(
        "the tensor %s in %s is %s at %s of %s; use another file"
            .formatted(
                Listing.quoted(stored.name()),
                file.path(),
                what,
                StoredWeights.index(at, Arrays.stream(parameter.spec().shape()).boxed().toList()),
                parameter.name()));
  }

  /// Numbers from an element on, which need not begin a block.
  private static void dequantize(GgufTensor stored, long first, MemorySegment to) {
    var format = stored.format();
    int block = format.blockLength();
    long count = to.byteSize() / Float.BYTES;
    if (first % block == 0 && count % block == 0) {
      Threads.split(
          count / block,
          GRAIN / block,
          (begin, end) ->
              format.dequantize(
                  stored.data(),
                  format.bytes(first + begin * block),
                  (end - begin) * block,
                  to,
                  begin * block * Float.BYTES));
      return;
    }
    long from = first / block * block;
    long whole = Math.ceilDiv(first + count, (long) block) * block - from;
    float[] numbers = new float[Math.toIntExact(whole)];
    format.dequantize(stored.data(), format.bytes(from), numbers.length, numbers, 0);
    MemorySegment.copy(
        MemorySegment.ofArray(numbers), (first - from) * Float.BYTES, to, 0, to.byteSize());
  }

  // ---------------------------------------------------------------- what no parameter is

  @Override
  public void judgeTheRest() {
    int layers = config.decoder().layers().size();
    long blocks =
        Objects.requireNonNull(file.metadata().whole(architecture.word() + ".block_count"));
    List<String> unknown = new ArrayList<>();
    int ahead = 0;
    for (var tensor : file.tensors().values()) {
      if (taken.contains(tensor.name())) {
        continue;
      }
      var matcher = BLOCK.matcher(tensor.name());
      int block = matcher.matches() ? Integer.parseInt(matcher.group(1)) : 0;
      if (block >= layers && block < blocks) {
        ahead++;
      } else if (!tensor.name().equals(GgufPlace.ROTARY_FACTORS)
          || !(architecture.hasRotaryFactors() || isAllOnes(tensor))) {
        unknown.add(tensor.name());
      }
    }
    if (!unknown.isEmpty()) {
      throw new InvalidInputException(
          "%s holds %s, which a model of the architecture %s as Sluice computes it has no use for; take another file of the model"
              .formatted(file.path(), Listing.of(unknown), architecture.word()));
    }
    if (ahead > 0) {
      notes.add(
          "%s holds %d tensors that predict further tokens, which are no part of the model of the next one; they are not read"
              .formatted(file.path(), ahead));
    }
  }

  /// Whether factors stretch nothing.
  private static boolean isAllOnes(GgufTensor tensor) {
    float[] factors = new float[Math.toIntExact(Math.min(tensor.elements(), 1 << 16))];
    if (tensor.format() != WeightFormat.F32 || factors.length < tensor.elements()) {
      return false;
    }
    tensor.format().dequantize(tensor.data(), 0, factors.length, factors, 0);
    for (float factor : factors) {
      if (factor != 1) {
        return false;
      }
    }
    return true;
  }
}
