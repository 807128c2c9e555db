package dev.sluice.cuda;

import dev.sluice.tensor.ElementType;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;

/// Kernels of one source file, which are compiled, and can be left out, together.
public enum KernelFamily {
  /// The gate after attention, with the transposition around it.
  GATE(forms(2, "gate_forward", "gate_backward_elementwise", "gate_backward_headwise")),
  /// Residual and RMSNorm.
  NORM(forms(2, "residual_norm", "residual_norm_backward"), forms(0, "norm_weight_gradient")),
  /// QK-norm and rotation.
  HEADS(forms(1, "rotated_heads", "rotated_heads_backward"), forms(0, "heads_weight_gradient")),
  /// The activation between a feed-forward layer's products.
  SWIGLU(forms(1, "swiglu", "swiglu_backward")),
  /// Softmax and cross-entropy of logits.
  LOSS(forms(1, "cross_entropy", "scaled"), forms(0, "scaled_sum")),
  /// AdamW and the gradients' norm.
  OPTIMIZER(forms(0, "adamw", "square_sums", "root_of_sums")),
  /// The gated delta rule.
  DELTA(
      forms(
          1,
          "delta_lengths",
          "delta_forward",
          "delta_values_backward",
          "delta_keys_backward",
          "delta_queries_backward",
          "delta_channels_backward",
          "delta_rates_backward"),
      forms(0, "delta_decays_backward"));

  private static final List<String> TYPES = List.of("float", "bf16");

  @SuppressWarnings("ImmutableEnumChecker") // a list that nobody can change
  private final List<String> kernels;

  @SafeVarargs
  @SuppressWarnings("varargs") // of an enum's constants, which read them alone
  KernelFamily(List<String>... kernels) {
    this.kernels = Arrays.stream(kernels).flatMap(List::stream).toList();
  }

  /// Names of kernels that there are for every choice of so many element types.
  private static List<String> forms(int types, String... names) {
    var forms = Arrays.asList(names);
    for (int i = 0; i < types; i++) {
      forms = forms.stream().flatMap(name -> Stream.of(name + "_float", name + "_bf16")).toList();
    }
    return forms;
  }

  /// The names that the source gives its kernels.
  public List<String> kernels() {
    return kernels;
  }

  /// The kernel for operands of these types.
  public Kernel kernel(String name, ElementType... types) {
    var full = new ArrayList<>(List.of(name));
    for (var type : types) {
      full.add(
          switch (type) {
            case FLOAT32 -> TYPES.getFirst();
            case BFLOAT16 -> TYPES.getLast();
            case FLOAT16, FLOAT64, INT64, INT32, UINT8, BOOL ->
                throw new IllegalArgumentException("no CUDA kernel takes " + type);
          });
    }
    return new Kernel(this, String.join("_", full));
  }

  /// Its word in settings, and its file's name.
  public String word() {
    return name().toLowerCase(Locale.ROOT);
  }

  /// The CUDA C++ text, with what all families share before it.
  public String source() {
    return text("common.cuh") + text(word() + ".cu");
  }

  static String text(String file) {
    try (var in = KernelFamily.class.getResourceAsStream(file)) {
      if (in == null) {
        throw new IllegalStateException("the program lacks its own file " + file);
      }
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
