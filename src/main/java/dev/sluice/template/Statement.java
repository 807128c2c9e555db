package dev.sluice.template;

import java.util.List;
import org.jspecify.annotations.Nullable;

/// What a template does; `at` is where it stands in the source.
sealed interface Statement {
  int at();

  record Data(int at, Text text) implements Statement {}

  record Output(int at, Expression value) implements Statement {}

  record If(int at, List<Branch> branches, List<Statement> otherwise) implements Statement {}

  record Branch(Expression test, List<Statement> body) {}

  record For(
      int at,
      Target target,
      Expression over,
      @Nullable Expression filter,
      Body body,
      Body otherwise)
      implements Statement {}

  record Assign(int at, Target target, Expression value) implements Statement {}

  /// `{% set target | filter %}body{% endset %}`; the filter stands on the name [#BODY].
  record Capture(int at, Target target, Expression value, Body body) implements Statement {
    static final String BODY = "";
  }

  /// @param defaults of the last parameters
  record Macro(int at, String name, List<String> parameters, List<Expression> defaults, Body body)
      implements Statement {}

  record Break(int at) implements Statement {}

  record Continue(int at) implements Statement {}

  record Generation(int at, Body body) implements Statement {}

  /// Statements with names of their own.
  record Body(List<Statement> statements, Names names) {}

  /// What is assigned to.
  sealed interface Target {}

  record Variable(String name) implements Target {}

  /// `space.name` of a namespace.
  record Member(int at, String space, String name) implements Target {}

  record Several(int at, List<Target> targets) implements Target {}
}
