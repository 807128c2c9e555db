package dev.sluice.template;

import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// What a template computes; `at` is where it stands in the source.
sealed interface Expression {
  int at();

  record Constant(int at, Object value) implements Expression {}

  record Name(int at, String name) implements Expression {}

  record ListOf(int at, List<Expression> items) implements Expression {}

  record TupleOf(int at, List<Expression> items) implements Expression {}

  record DictOf(int at, List<Expression> keys, List<Expression> values) implements Expression {}

  /// `of.name`
  record Attribute(int at, Expression of, String name) implements Expression {}

  /// `of[index]`
  record Item(int at, Expression of, Expression index) implements Expression {}

  /// `of[from:to:step]`
  record Slice(
      int at,
      Expression of,
      @Nullable Expression from,
      @Nullable Expression to,
      @Nullable Expression step)
      implements Expression {}

  record Call(int at, Expression function, Given given) implements Expression {}

  record Filter(int at, Expression value, String name, Given given) implements Expression {}

  record Test(int at, Expression value, String name, Given given) implements Expression {}

  record Not(int at, Expression value) implements Expression {}

  /// A sign.
  record Sign(int at, String sign, Expression value) implements Expression {}

  record Binary(int at, String operator, Expression left, Expression right) implements Expression {}

  /// `first < rest[0] < rest[1]`, where each is computed once.
  record Compare(int at, Expression first, List<String> operators, List<Expression> rest)
      implements Expression {}

  record Concat(int at, List<Expression> parts) implements Expression {}

  /// `and` if `isAnd`, else `or`.
  record Logic(int at, boolean isAnd, Expression left, Expression right) implements Expression {}

  record Conditional(int at, Expression test, Expression then, @Nullable Expression otherwise)
      implements Expression {}

  /// The arguments of a call, a filter or a test.
  record Given(List<Expression> positional, Map<String, Expression> named) {
    static final Given NOTHING = new Given(List.of(), Map.of());
  }
}
