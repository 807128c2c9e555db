package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Recompute;
import dev.sluice.operations.Precision;
import dev.sluice.optimizer.AdamW;
import dev.sluice.optimizer.LearningRateSchedule;
import dev.sluice.optimizer.Muon;
import dev.sluice.optimizer.Optimizer;
import dev.sluice.statistics.Statistics;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.DeviceMemory;
import dev.sluice.tensor.MatrixProduct;
import dev.sluice.tensor.MatrixProduct.Matrix;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.OptionalLong;
import java.util.Random;
import org.jspecify.annotations.Nullable;

/// How long training steps take, on random tokens. Several models take their steps in turn,
/// forwards and backwards through the list, so that whatever else the machine does falls on all of
/// them.
public final class TrainingBenchmark implements AutoCloseable {
  private static final double LEARNING_RATE = 1e-3;
  private static final double CLIP_NORM = 1;
  private static final long SEED = 1;

  /// A model's sizes and its batch, in the order in which text gives them.
  ///
  /// @param hiddenSize D, a multiple of the heads
  /// @param intermediateSize the feed-forward width
  /// @param sequenceLength T
  /// @param batchSize sequences of a step
  public record Shape(
      int hiddenSize,
      int layers,
      int attentionHeads,
      int keyValueHeads,
      int intermediateSize,
      int vocabSize,
      int sequenceLength,
      int batchSize) {
    /// Reads `D,LAYERS,HEADS,KEY_VALUE_HEADS,FFN,VOCABULARY,TOKENS,BATCH`.
    public static Shape parse(String text) {
      int[] n;
      try {
        n = Arrays.stream(text.split(",")).map(String::strip).mapToInt(Integer::parseInt).toArray();
      } catch (NumberFormatException e) {
        throw malformed(text);
      }
      if (n.length != 8 || Arrays.stream(n).anyMatch(size -> size < 1) || n[0] % n[2] != 0) {
        throw malformed(text);
      }
      return new Shape(n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]);
    }

    private static InvalidInputException malformed(String text) {
      return new InvalidInputException(
          "a shape is eight positive numbers, D,LAYERS,HEADS,KEY_VALUE_HEADS,FFN,VOCABULARY,TOKENS,"
              + "BATCH with D a multiple of HEADS, such as 384,8,6,2,1024,256,512,16; not '"
              + text
              + "'");
    }

    /// The model without gates, with tied embeddings and QK-norm.
    ///
    /// @param layersPattern as in [ShapeSettings]
    /// @param slidingWindow likewise
    public DecoderConfig decoder(String layersPattern, int slidingWindow) {
      var settings = new LinkedHashMap<String, String>();
      settings.put("model", "tiny"); // all whose sizes are given
      settings.put("hidden_size", "" + hiddenSize);
      settings.put("layers", "" + layers);
      settings.put("attention_heads", "" + attentionHeads);
      settings.put("key_value_heads", "" + keyValueHeads);
      settings.put("head_dim", "" + hiddenSize / attentionHeads);
      settings.put("intermediate_size", "" + intermediateSize);
      settings.put("sequence_length", "" + sequenceLength);
      settings.put("layers_pattern", layersPattern);
      settings.put("sliding_window", "" + slidingWindow);
      settings.put("gate", "none");
      return RunConfig.from(null, settings).decoder(vocabSize);
    }

    public long tokensPerStep() {
      return (long) sequenceLength * batchSize;
    }
  }

  /// One of the models that are compared.
  ///
  /// @param gate its gates' names
  public record Arm(
      String gate, Precision precision, DecoderConfig config, Optimizer.Kind optimizer) {
    private Optimizer.Settings settings() {
      var adamW = new AdamW.Settings(0.9, 0.95, 1e-8, 0.1);
      return switch (optimizer) {
        case ADAMW -> adamW;
        case MUON -> new Muon.Settings(0.95, adamW);
      };
    }
  }

  /// What was measured of an arm.
  ///
  /// @param firstStepSeconds of the very first step, where the virtual machine is cold
  /// @param stepSeconds of the measured rounds, in their order
  /// @param loss of the last step
  /// @param devicePeak the most bytes of a device that it held at a time, its weights and the
  ///   optimizer's numbers among them; empty on the CPU, where memory is the process's
  public record Measured(
      Arm arm,
      double firstStepSeconds,
      double[] stepSeconds,
      double loss,
      OptionalLong devicePeak) {
    public double medianSeconds() {
      return Statistics.median(stepSeconds);
    }

    /// The step's time relative to another arm's, round by round.
    public double[] ratios(Measured other) {
      double[] ratios = new double[stepSeconds.length];
      Arrays.setAll(ratios, i -> stepSeconds[i] / other.stepSeconds[i]);
      return ratios;
    }
  }

  /// A model with its optimizer and its times.
  private static final class Running implements AutoCloseable {
    private final Arm arm;
    private final Decoder decoder;
    private final Trainer trainer;
    private final List<Double> seconds = new ArrayList<>();
    private final List<Double> losses = new ArrayList<>();

    /// Bytes of the device that are this model's while the others take their steps.
    private long held;

    private long peak;

    Running(Arm arm, Decoder decoder, Trainer trainer) {
      this.arm = arm;
      this.decoder = decoder;
      this.trainer = trainer;
    }

    /// Does something of this model's, of which the device's memory is counted.
    void counted(@Nullable DeviceMemory memory, Runnable work) {
      if (memory == null) {
        work.run();
        return;
      }
      long before = memory.held();
      memory.begin();
      work.run();
      peak = Math.max(peak, held + memory.peak() - before);
      held += memory.held() - before;
    }

    @Override
    public void close() {
      trainer.close();
      decoder.close();
    }
  }

  private final Shape shape;
  private final @Nullable DeviceMemory memory;
  private final List<Running> running = new ArrayList<>();
  private final Random random = new Random(SEED);
  private List<long[]> next;
  private int number;

  /// Makes the models.
  ///
  /// @param device that all are on
  public TrainingBenchmark(Shape shape, List<Arm> arms, Recompute recompute, Device device) {
    this(shape, arms, recompute, device, DeviceMemory.of(device).orElse(null));
  }

  /// @param memory of the device; null where nobody counts it
  TrainingBenchmark(
      Shape shape,
      List<Arm> arms,
      Recompute recompute,
      Device device,
      @Nullable DeviceMemory memory) {
    this.shape = shape;
    this.memory = memory;
    this.next = drawn();
    for (var arm : arms) {
      long before = memory == null ? 0 : memory.held();
      var decoder = Decoder.initialize(arm.config(), arm.precision(), device, SEED);
      decoder.recompute(recompute);
      var trainer =
          new Trainer(
              decoder,
              arm.settings(),
              new LearningRateSchedule.Cosine(0, Integer.MAX_VALUE, 1),
              LEARNING_RATE,
              CLIP_NORM);
      var one = new Running(arm, decoder, trainer);
      one.held = memory == null ? 0 : memory.held() - before;
      running.add(one);
    }
  }

  /// Takes a step with every arm, on the same tokens.
  public void round() {
    var batches = next;
    next = drawn();
    number++;
    for (var one : number % 2 == 0 ? running.reversed() : running) {
      one.counted(
          memory,
          () -> {
            long began = System.nanoTime();
            var step = step(one, batches);
            one.seconds.add((System.nanoTime() - began) / 1e9);
            one.losses.add(step.loss());
          });
    }
  }

  /// Takes one step with one arm, not timed.
  public void step(int arm) {
    var batches = next;
    next = drawn();
    step(running.get(arm), batches);
  }

  private List<long[]> drawn() {
    long[] ids = new long[shape.batchSize * (shape.sequenceLength + 1)];
    Arrays.setAll(ids, _ -> random.nextInt(shape.vocabSize));
    return List.of(ids);
  }

  private Trainer.Step step(Running one, List<long[]> batches) {
    return one.trainer.step(
        number,
        batches,
        shape.batchSize,
        shape.sequenceLength,
        (loss, norm) -> Double.isFinite(loss) && Double.isFinite(norm),
        () -> next);
  }

  /// The times of all rounds but the first `warmUp`.
  public List<Measured> measured(int warmUp) {
    return running.stream()
        .map(
            one ->
                new Measured(
                    one.arm,
                    one.seconds.isEmpty() ? Double.NaN : one.seconds.getFirst(),
                    one.seconds.stream().skip(warmUp).mapToDouble(s -> s).toArray(),
                    one.losses.isEmpty() ? Double.NaN : one.losses.getLast(),
                    memory == null ? OptionalLong.empty() : OptionalLong.of(one.peak)))
        .toList();
  }

  @Override
  public void close() {
    running.forEach(Running::close);
  }

  /// A side of the matrices of [#productRate].
  public static int productSize(Device device) {
    return device.equals(Device.CPU) ? 2048 : 8192;
  }

  /// The rate of a large matrix product on a device, in FLOP/s: the limit of a training step whose
  /// other work costs nothing.
  public static double productRate(Precision precision, Device device) {
    int size = productSize(device);
    boolean here = device.equals(Device.CPU);
    int rounds = 12;
    int products = here ? 1 : 8; // a device is waited for once a round
    double[] seconds = new double[rounds];
    try (var _ = Scope.withoutGradient()) {
      var random = new Random(SEED);
      int drawn = Math.min(size, 2048); // on a side; a larger matrix has each of them several times
      float[] numbers = new float[drawn * drawn];
      for (int i = 0; i < numbers.length; i++) {
        numbers[i] = (float) random.nextGaussian();
      }
      var type = precision.elementType();
      var a =
          Tensor.of(numbers, drawn, drawn)
              .to(device)
              .to(type)
              .repeatInterleave(size / drawn, 0)
              .repeatInterleave(size / drawn, 1);
      var c = Tensor.uninitialized(a, type, size, size);
      for (int i = 0; i < rounds; i++) {
        long began = System.nanoTime();
        if (here) {
          MatrixProduct.split(Matrix.of(a), Matrix.of(a).transposed(), Matrix.of(c), false);
        } else {
          multiply(a, products);
        }
        seconds[i] = (System.nanoTime() - began) / 1e9 / products;
      }
    }
    return 2.0 * size * size * size / Statistics.median(seconds);
  }

  private static void multiply(Tensor a, int times) {
    try (var _ = Scope.open()) {
      for (int i = 0; i < times; i++) {
        var product = a.linear(a);
        if (i == times - 1) {
          product.narrow(0, 0, 1).narrow(1, 0, 1).item();
        }
      }
    }
  }
}
