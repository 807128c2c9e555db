package dev.sluice.tensor;

/// The element types that Sluice stores, loads and computes with.
public enum ElementType {
  FLOAT32("F32", 4),
  BFLOAT16("BF16", 2),
  FLOAT16("F16", 2),
  FLOAT64("F64", 8),
  INT64("I64", 8),
  INT32("I32", 4),
  UINT8("U8", 1),
  BOOL("BOOL", 1);

  private final String safetensorsName;
  private final int bytes;

  ElementType(String safetensorsName, int bytes) {
    this.safetensorsName = safetensorsName;
    this.bytes = bytes;
  }

  /// The `dtype` string of the safetensors format.
  public String safetensorsName() {
    return safetensorsName;
  }

  /// Size of one element in bytes.
  public int bytes() {
    return bytes;
  }

  public boolean isFloatingPoint() {
    return switch (this) {
      case FLOAT32, BFLOAT16, FLOAT16, FLOAT64 -> true;
      case INT64, INT32, UINT8, BOOL -> false;
    };
  }
}
