package dev.sluice.settings;

import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/// Makes a record's component a setting, called as the component is: `batchSize` is `batch_size` in
/// a file and `--batch-size` on the command line. It is an `int`, `long`, `double`, `boolean` or
/// `String`.
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.RECORD_COMPONENT)
public @interface Setting {
  /// What holds where nobody says otherwise, as a flag would give it.
  String initial();

  /// What `--help` says.
  String help();

  /// The smallest number.
  double least() default Double.NEGATIVE_INFINITY;

  /// A number that is already too small.
  double above() default Double.NEGATIVE_INFINITY;

  /// The largest number.
  double most() default Double.POSITIVE_INFINITY;

  /// A number that is already too large.
  double below() default Double.POSITIVE_INFINITY;

  /// What the message of a number out of bounds advises, after `use`; the smallest number where it
  /// is empty.
  String use() default "";

  /// What `--help` calls the first value; that value where it is empty.
  String called() default "";

  /// On a component that is a record of settings: the heading over its settings and those that
  /// follow in `--help`.
  @Retention(RetentionPolicy.RUNTIME)
  @Target(ElementType.RECORD_COMPONENT)
  @interface Heading {
    String value();
  }
}
