package dev.sluice.template;

import dev.sluice.InvalidInputException;
import dev.sluice.template.Expression.Given;
import dev.sluice.template.Statement.Target;
import dev.sluice.template.Values.Dict;
import dev.sluice.template.Values.Function;
import dev.sluice.template.Values.Namespace;
import dev.sluice.template.Values.Tuple;
import dev.sluice.template.Values.Undefined;
import java.time.LocalDateTime;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// Does what a template says, once.
final class Interpreter {
  /// How a body ended.
  private enum End {
    DONE,
    BREAK,
    CONTINUE
  }

  /// Names and what they stand for; those of an inner scope are gone at its end. Loops, macros and
  /// blocks that are captured have one, branches do not.
  private record Scope(@Nullable Scope outer, Map<String, Object> names) {
    Scope(@Nullable Scope outer, Statement.Body body) {
      this(outer, new HashMap<>());
      for (String name : body.names().undefined()) {
        names.put(name, new Undefined("'%s' is undefined".formatted(name)));
      }
    }

    @Nullable Object find(String name) {
      for (Scope scope = this; scope != null; scope = scope.outer) {
        Object value = scope.names.get(name);
        if (value != null) {
          return value;
        }
      }
      return null;
    }
  }

  private final Source source;
  private final Work work;
  private final Values values;
  private final Members members;
  private final LocalDateTime now;

  Interpreter(Source source, Work work, LocalDateTime now) {
    this.source = source;
    this.work = work;
    this.now = now;
    values = new Values(work);
    members = new Members(values);
  }

  Text render(Statement.Body template, Map<String, Object> variables) {
    Map<String, Object> given = globals();
    given.putAll(variables);
    var output = new Text.Builder(work);
    run(template.statements(), new Scope(new Scope(null, given), template), output);
    return output.text();
  }

  private Map<String, Object> globals() {
    var globals = new HashMap<String, Object>();
    function(globals, "range", Values::range);
    function(globals, "dict", given -> Filters.dict(values, given));
    function(globals, "namespace", this::namespace);
    function(globals, "strftime_now", this::time);
    function(
        globals,
        "raise_exception",
        given -> {
          Text message = values.text(given.bind("raise_exception", 1, "message")[0]);
          throw new InvalidInputException(
              "%s refuses the conversation: %s".formatted(source.name(), message.string()));
        });
    return globals;
  }

  private static void function(Map<String, Object> globals, String name, Function.Body body) {
    globals.put(name, new Function(name, body));
  }

  private Object namespace(Arguments given) {
    var names = new LinkedHashMap<String, Object>();
    Filters.dict(values, given).each((key, value) -> names.put(values.text(key).string(), value));
    return new Namespace(names);
  }

  private Object time(Arguments given) {
    if (given.bind("strftime_now", 1, "format")[0] instanceof Text format) {
      return Strftime.of(values, format, now);
    }
    throw new TemplateFailure("strftime_now takes a string");
  }

  private End run(List<Statement> body, Scope scope, Text.Builder output) {
    for (Statement statement : body) {
      End end;
      try {
        work.enter();
        end = run(statement, scope, output);
        work.leave();
      } catch (TemplateFailure e) {
        throw source.wrong(statement.at(), e.getMessage());
      }
      if (end != End.DONE) {
        return end;
      }
    }
    return End.DONE;
  }

  private End run(Statement statement, Scope scope, Text.Builder output) {
    switch (statement) {
      case Statement.Data data -> output.append(data.text());
      case Statement.Output print -> output.append(values.text(evaluate(print.value(), scope)));
      case Statement.If choice -> {
        return run(branch(choice, scope), scope, output);
      }
      case Statement.For loop -> {
        return loop(loop, scope, output);
      }
      case Statement.Assign assign ->
          assign(assign.target(), evaluate(assign.value(), scope), scope);
      case Statement.Capture capture -> {
        return capture(capture, scope);
      }
      case Statement.Macro macro ->
          scope.names.put(
              macro.name(), new Function(macro.name(), given -> call(macro, scope, given)));
      case Statement.Generation generation ->
          run(generation.body().statements(), new Scope(scope, generation.body()), output);
      case Statement.Break _ -> {
        return End.BREAK;
      }
      case Statement.Continue _ -> {
        return End.CONTINUE;
      }
    }
    return End.DONE;
  }

  private List<Statement> branch(Statement.If choice, Scope scope) {
    for (Statement.Branch branch : choice.branches()) {
      if (Values.isTrue(evaluate(branch.test(), scope))) {
        return branch.body();
      }
    }
    return choice.otherwise();
  }

  private End loop(Statement.For statement, Scope scope, Text.Builder output) {
    List<Object> items = values.iterate(evaluate(statement.over(), scope));
    if (statement.filter() != null) {
      var kept = new ArrayList<Object>();
      for (Object item : items) {
        var inner = new Scope(scope, new HashMap<>());
        assign(statement.target(), item, inner);
        if (Values.isTrue(evaluate(statement.filter(), inner))) {
          kept.add(item);
        }
      }
      items = kept;
    }
    Statement.Body body = statement.body();
    var loop = new Loop(values, items);
    boolean done = false; // an iteration to its end
    for (int i = 0; i < items.size(); i++) {
      work.step();
      loop.at(i);
      var inner = new Scope(scope, body);
      inner.names.put("loop", loop);
      assign(statement.target(), items.get(i), inner);
      End end = run(body.statements(), inner, output);
      done |= end == End.DONE;
      if (end == End.BREAK) {
        break;
      }
    }
    Statement.Body otherwise = statement.otherwise();
    return done ? End.DONE : run(otherwise.statements(), new Scope(scope, otherwise), output);
  }

  private End capture(Statement.Capture capture, Scope scope) {
    var captured = new Text.Builder(work);
    End end = run(capture.body().statements(), new Scope(scope, capture.body()), captured);
    if (end == End.DONE) {
      var inner = new Scope(scope, new HashMap<>());
      inner.names.put(Statement.Capture.BODY, captured.text());
      assign(capture.target(), evaluate(capture.value(), inner), scope);
    }
    return end;
  }

  private void assign(Target target, Object value, Scope scope) {
    switch (target) {
      case Statement.Variable variable -> scope.names.put(variable.name(), value);
      case Statement.Member member -> {
        if (!(scope.find(member.space()) instanceof Namespace space)) {
          throw source.wrong(member.at(), "cannot assign attribute on non-namespace object");
        }
        space.members().put(member.name(), value);
      }
      case Statement.Several several -> {
        List<Object> parts = values.iterate(value);
        int expected = several.targets().size();
        if (parts.size() != expected) {
          throw source.wrong(
              several.at(), "%d names are assigned %d values".formatted(expected, parts.size()));
        }
        for (int i = 0; i < expected; i++) {
          assign(several.targets().get(i), parts.get(i), scope);
        }
      }
    }
  }

  private Object call(Statement.Macro macro, Scope defined, Arguments given) {
    List<String> names = macro.parameters();
    Object[] bound =
        given.bind("macro '%s'".formatted(macro.name()), 0, names.toArray(String[]::new));
    var scope = new Scope(defined, macro.body());
    int required = names.size() - macro.defaults().size();
    for (int i = 0; i < bound.length; i++) {
      Object value = bound[i];
      if (value == Arguments.ABSENT) {
        value =
            i < required
                ? new Undefined("parameter '%s' was not provided".formatted(names.get(i)))
                : evaluate(macro.defaults().get(i - required), scope);
      }
      scope.names.put(names.get(i), value);
    }
    var output = new Text.Builder(work);
    run(macro.body().statements(), scope, output);
    return output.text();
  }

  private Object evaluate(Expression expression, Scope scope) {
    try {
      return switch (expression) {
        case Expression.Constant constant -> constant.value();
        case Expression.Name name -> name(name.name(), scope);
        default -> {
          work.enter();
          Object value = compute(expression, scope);
          work.leave();
          yield value;
        }
      };
    } catch (TemplateFailure e) {
      throw source.wrong(expression.at(), e.getMessage());
    }
  }

  private static Object name(String name, Scope scope) {
    Object value = scope.find(name);
    return value != null ? value : new Undefined("'%s' is undefined".formatted(name));
  }

  private Object compute(Expression expression, Scope scope) {
    return switch (expression) {
      case Expression.Constant constant -> constant.value();
      case Expression.Name name -> name(name.name(), scope);
      case Expression.ListOf list -> evaluate(list.items(), scope);
      case Expression.TupleOf tuple -> new Tuple(evaluate(tuple.items(), scope));
      case Expression.DictOf dict -> dict(dict, scope);
      case Expression.Attribute attribute ->
          members.attribute(evaluate(attribute.of(), scope), attribute.name());
      case Expression.Item item ->
          members.item(evaluate(item.of(), scope), evaluate(item.index(), scope));
      case Expression.Slice slice ->
          values.slice(
              evaluate(slice.of(), scope),
              bound(slice.from(), scope),
              bound(slice.to(), scope),
              bound(slice.step(), scope));
      case Expression.Call call -> call(call, scope);
      case Expression.Filter filter -> {
        Object value = evaluate(filter.value(), scope);
        yield Filters.named(Filters.ALL, "filter", filter.name())
            .of(members, value, arguments(filter.given(), scope));
      }
      case Expression.Test test -> {
        Object value = evaluate(test.value(), scope);
        yield Filters.named(Tests.ALL, "test", test.name())
            .of(values, value, arguments(test.given(), scope));
      }
      case Expression.Not not -> !Values.isTrue(evaluate(not.value(), scope));
      case Expression.Sign sign -> sign(sign, scope);
      case Expression.Binary binary ->
          values.binary(
              binary.operator(), evaluate(binary.left(), scope), evaluate(binary.right(), scope));
      case Expression.Compare compare -> compare(compare, scope);
      case Expression.Concat concat ->
          Strings.join(values, Text.EMPTY, evaluate(concat.parts(), scope));
      case Expression.Logic logic -> {
        Object left = evaluate(logic.left(), scope);
        yield Values.isTrue(left) == logic.isAnd() ? evaluate(logic.right(), scope) : left;
      }
      case Expression.Conditional conditional -> conditional(conditional, scope);
    };
  }

  private List<Object> evaluate(List<Expression> expressions, Scope scope) {
    var found = new ArrayList<Object>(expressions.size());
    for (Expression expression : expressions) {
      found.add(evaluate(expression, scope));
    }
    work.spend((long) Work.ELEMENT * found.size());
    return found;
  }

  private Dict dict(Expression.DictOf expression, Scope scope) {
    var dict = new Dict();
    for (int i = 0; i < expression.keys().size(); i++) {
      Object key = evaluate(expression.keys().get(i), scope);
      values.put(dict, key, evaluate(expression.values().get(i), scope));
    }
    return dict;
  }

  private Object bound(@Nullable Expression bound, Scope scope) {
    return bound == null ? None.NONE : evaluate(bound, scope);
  }

  private Arguments arguments(Given given, Scope scope) {
    var named = new LinkedHashMap<String, Object>();
    List<Object> positional = evaluate(given.positional(), scope);
    given.named().forEach((name, value) -> named.put(name, evaluate(value, scope)));
    return new Arguments(positional, named);
  }

  private Object call(Expression.Call call, Scope scope) {
    Object function = evaluate(call.function(), scope);
    Arguments arguments = arguments(call.given(), scope);
    Values.refuseUndefined(function);
    if (function instanceof Function known) {
      return known.body().call(arguments);
    }
    throw TemplateFailure.of("'%s' object is not callable", Values.typeName(function));
  }

  private Object sign(Expression.Sign sign, Scope scope) {
    Object value = evaluate(sign.value(), scope);
    Values.refuseUndefined(value);
    if (!Numbers.isNumber(value)) {
      throw TemplateFailure.of(
          "bad operand type for unary %s: '%s'", sign.sign(), Values.typeName(value));
    }
    return Numbers.sign(sign.sign(), value);
  }

  private Object compare(Expression.Compare compare, Scope scope) {
    Object left = evaluate(compare.first(), scope);
    for (int i = 0; i < compare.rest().size(); i++) {
      Object right = evaluate(compare.rest().get(i), scope);
      if (!Tests.compare(values, compare.operators().get(i), left, right)) {
        return false;
      }
      left = right;
    }
    return true;
  }

  private Object conditional(Expression.Conditional conditional, Scope scope) {
    if (Values.isTrue(evaluate(conditional.test(), scope))) {
      return evaluate(conditional.then(), scope);
    }
    return conditional.otherwise() == null
        ? new Undefined(
            "the inline if-expression evaluated to false and no else section was defined.")
        : evaluate(conditional.otherwise(), scope);
  }
}
