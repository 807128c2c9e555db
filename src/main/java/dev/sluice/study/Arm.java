package dev.sluice.study;

import java.util.Collections;
import java.util.Map;
import java.util.TreeMap;

/// A variant at one point of the study's grid: what is trained once per seed.
///
/// @param point the grid's settings here; empty in a study without a grid
public record Arm(Variant variant, Map<String, String> point) {
  public Arm {
    point = Collections.unmodifiableMap(new TreeMap<>(point));
  }

  /// The variant's name and where in the grid it stands.
  public String name() {
    return name(variant.name(), point);
  }

  static String name(String variant, Map<String, String> point) {
    var name = new StringBuilder(variant);
    point.forEach((setting, value) -> name.append(", ").append(setting).append(' ').append(value));
    return name.toString();
  }

  /// The name as part of a file's.
  String fileName() {
    return name().replace(", ", "-").replaceAll("[^A-Za-z0-9.+-]+", "_");
  }
}
