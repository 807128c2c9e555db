package dev.sluice.attention;

import dev.sluice.InvalidInputException;
import java.util.Locale;

/// A function of the output of scaled dot-product attention, head by head and before any gate: the
/// paper's rows without a gate but with a non-linearity (table 3).
public enum SdpaNonlinearity {
  NONE,
  /// RMSNorm over each head with weights of its own, the paper's "SDPA GroupNorm".
  RMS_NORM,
  /// SiLU, without parameters.
  SILU;

  /// Reads `none`, `rms-norm` or `silu`.
  public static SdpaNonlinearity parse(String word) {
    for (SdpaNonlinearity nonlinearity : values()) {
      if (nonlinearity.word().equals(word.toLowerCase(Locale.ROOT))) {
        return nonlinearity;
      }
    }
    throw new InvalidInputException(
        "unknown non-linearity after attention '" + word + "'; use none, rms-norm or silu");
  }

  public String word() {
    return name().toLowerCase(Locale.ROOT).replace('_', '-');
  }
}
