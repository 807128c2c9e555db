package dev.sluice.template;

import dev.sluice.InvalidInputException;
import dev.sluice.template.Expression.Given;
import dev.sluice.template.Lexer.Kind;
import dev.sluice.template.Lexer.Token;
import dev.sluice.template.Statement.Target;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// From words to statements, with the precedences of Jinja, which are not Python's: `-1|abs` is
/// `(-1)|abs`, `-2 ** 2` is 4, `2 ** 3 ** 2` is 64, `~` binds closer than `+`.
final class Parser {
  /// Brackets, blocks and signs within one another.
  private static final int DEEPEST = 100;

  private static final Set<String> COMPARISONS = Set.of("==", "!=", "<", "<=", ">", ">=");

  private static final Set<String> OTHER_TAGS =
      Set.of(
          "autoescape",
          "block",
          "call",
          "debug",
          "do",
          "extends",
          "filter",
          "from",
          "import",
          "include",
          "print",
          "trans",
          "with");

  /// Names that mean in a macro or a template what no chat template needs.
  private static final Set<String> OTHER_NAMES =
      Set.of("caller", "cycler", "joiner", "kwargs", "lipsum", "self", "super", "varargs");

  private final Source source;
  private final List<Token> tokens;
  private int position;
  private int depth;

  /// Whether a `break` has a loop to end.
  private boolean inLoop;

  /// Of the scope that is being read.
  private Names names = new Names(null);

  private Parser(Source source) {
    this.source = source;
    tokens = Lexer.tokens(source);
  }

  static Statement.Body parse(Source source) {
    var parser = new Parser(source);
    return new Statement.Body(parser.body(Set.of()), parser.names);
  }

  private Token peek() {
    return tokens.get(position);
  }

  private Token next() {
    Token token = tokens.get(position);
    if (token.kind() != Kind.END) {
      position++;
    }
    return token;
  }

  private boolean isOperator(String text) {
    return peek().is(Kind.OPERATOR, text);
  }

  private boolean isName(String text) {
    return peek().is(Kind.NAME, text);
  }

  private boolean skipOperator(String text) {
    boolean found = isOperator(text);
    position += found ? 1 : 0;
    return found;
  }

  private boolean skipName(String text) {
    boolean found = isName(text);
    position += found ? 1 : 0;
    return found;
  }

  private InvalidInputException unexpected(String wanted) {
    return source.wrong(peek().at(), "%s stands where %s belongs".formatted(peek(), wanted));
  }

  private Token expect(Kind kind, String wanted) {
    if (peek().kind() != kind) {
      throw unexpected(wanted);
    }
    return next();
  }

  private void expectOperator(String text) {
    if (!skipOperator(text)) {
      throw unexpected("'" + text + "'");
    }
  }

  private void expectName(String text) {
    if (!skipName(text)) {
      throw unexpected("'" + text + "'");
    }
  }

  private void enter() {
    depth++;
    if (depth > DEEPEST) {
      throw source.wrong(
          peek().at(), "more than %d levels stand within one another".formatted(DEEPEST));
    }
  }

  /// Statements up to a tag of one of these names, which is left to be read.
  private List<Statement> body(Set<String> ends) {
    enter();
    var body = new ArrayList<Statement>();
    while (true) {
      Token token = next();
      switch (token.kind()) {
        case DATA -> body.add(new Statement.Data(token.at(), Text.template(token.text())));
        case PRINT -> {
          body.add(new Statement.Output(token.at(), several(true)));
          expect(Kind.PRINT_END, "'}}'");
        }
        case TAG -> {
          if (peek().kind() == Kind.NAME && ends.contains(peek().text())) {
            depth--;
            return body;
          }
          body.add(statement());
          expect(Kind.TAG_END, "'%}'");
        }
        default -> {
          if (!ends.isEmpty()) {
            throw source.wrong(
                token.at(), "the template ends where one of %s belongs".formatted(sorted(ends)));
          }
          depth--;
          return body;
        }
      }
    }
  }

  private static List<String> sorted(Set<String> names) {
    return names.stream().sorted().toList();
  }

  /// The body of the tag that is being read.
  private List<Statement> block(Set<String> ends) {
    skipOperator(":");
    expect(Kind.TAG_END, "'%}'");
    return body(ends);
  }

  /// A block with names of its own.
  private Statement.Body scope(Names inner, Set<String> ends, boolean loop) {
    boolean before = inLoop;
    Names outer = names;
    inLoop = loop;
    names = inner;
    List<Statement> body = block(ends);
    inLoop = before;
    names = outer;
    return new Statement.Body(body, inner);
  }

  private Statement.Body scope(String end, boolean loop) {
    Statement.Body body = scope(new Names(names), Set.of(end), loop);
    expectName(end);
    return body;
  }

  private List<Statement> branch(Set<String> ends) {
    names.enterBranch();
    List<Statement> body = block(ends);
    names.leaveBranch();
    return body;
  }

  private Statement statement() {
    Token tag = expect(Kind.NAME, "the name of a tag");
    int at = tag.at();
    return switch (tag.text()) {
      case "if" -> choice(at);
      case "for" -> loop(at);
      case "set" -> assignment(at);
      case "macro" -> macro(at);
      case "generation" -> new Statement.Generation(at, scope("endgeneration", false));
      case "break", "continue" -> {
        if (!inLoop) {
          throw source.wrong(at, "'%s' stands outside of a loop".formatted(tag.text()));
        }
        yield tag.text().equals("break") ? new Statement.Break(at) : new Statement.Continue(at);
      }
      default -> {
        if (OTHER_TAGS.contains(tag.text())) {
          throw source.outside(at, "the tag '%s'".formatted(tag.text()));
        }
        throw source.wrong(at, "'%s' is no tag that belongs here".formatted(tag.text()));
      }
    };
  }

  private Statement choice(int at) {
    var branches = new ArrayList<Statement.Branch>();
    do {
      Expression test = several(false);
      branches.add(new Statement.Branch(test, branch(Set.of("elif", "else", "endif"))));
    } while (skipName("elif"));
    List<Statement> otherwise = List.of();
    if (skipName("else")) {
      otherwise = branch(Set.of("endif"));
    }
    expectName("endif");
    return new Statement.If(at, branches, otherwise);
  }

  private Statement loop(int at) {
    Target target = target(false);
    expectName("in");
    Expression over = several(false);
    var inner = new Names(names);
    declare(target, inner);
    Expression filter = skipName("if") ? expression(inner) : null;
    if (isName("recursive")) {
      throw source.outside(peek().at(), "a recursive loop");
    }
    inner = new Names(names);
    declare(target, inner);
    inner.declare("loop");
    Statement.Body body = scope(inner, Set.of("endfor", "else"), true);
    var otherwise = new Statement.Body(List.of(), new Names(names));
    if (skipName("else")) {
      otherwise = scope(otherwise.names(), Set.of("endfor"), inLoop);
    }
    expectName("endfor");
    return new Statement.For(at, target, over, filter, body, otherwise);
  }

  private Expression expression(Names inner) {
    Names outer = names;
    names = inner;
    Expression expression = expression();
    names = outer;
    return expression;
  }

  private static void declare(Target target, Names names) {
    switch (target) {
      case Statement.Variable variable -> names.declare(variable.name());
      case Statement.Member _ -> {}
      case Statement.Several several -> several.targets().forEach(one -> declare(one, names));
    }
  }

  private void assign(Target target) {
    switch (target) {
      case Statement.Variable variable -> names.assign(variable.name());
      case Statement.Member member -> names.read(member.space());
      case Statement.Several several -> several.targets().forEach(this::assign);
    }
  }

  private Statement assignment(int at) {
    Target target = target(true);
    if (skipOperator("=")) {
      Expression value = several(true);
      assign(target);
      return new Statement.Assign(at, target, value);
    }
    assign(target);
    Expression value = new Expression.Name(at, Statement.Capture.BODY);
    while (isOperator("|")) {
      value = filter(value);
    }
    return new Statement.Capture(at, target, value, scope("endset", inLoop));
  }

  private Statement macro(int at) {
    String name = variable().name();
    names.assign(name);
    expectOperator("(");
    var inner = new Names(names);
    var parameters = new ArrayList<String>();
    var defaults = new ArrayList<Expression>();
    while (!skipOperator(")")) {
      if (!parameters.isEmpty()) {
        expectOperator(",");
      }
      int start = peek().at();
      parameters.add(variable().name());
      inner.declare(parameters.getLast());
      if (skipOperator("=")) {
        defaults.add(expression(inner));
      } else if (!defaults.isEmpty()) {
        throw source.wrong(start, "a parameter without a default stands behind one with it");
      }
    }
    Statement.Body body = scope(inner, Set.of("endmacro"), false);
    expectName("endmacro");
    return new Statement.Macro(at, name, parameters, defaults, body);
  }

  private Statement.Variable variable() {
    Token token = expect(Kind.NAME, "a name");
    if (constant(token) != null) {
      throw source.wrong(token.at(), token + " cannot be assigned to");
    }
    outside(token);
    return new Statement.Variable(token.text());
  }

  private void outside(Token name) {
    if (OTHER_NAMES.contains(name.text())) {
      throw source.outside(name.at(), "the name " + name);
    }
  }

  private Target target(boolean members) {
    int at = peek().at();
    var targets = new ArrayList<Target>();
    boolean several = false;
    do {
      if (!targets.isEmpty() && (isOperator("=") || isName("in") || isOperator(")"))) {
        break;
      }
      targets.add(one(members));
      several |= isOperator(",");
    } while (skipOperator(","));
    return several ? new Statement.Several(at, targets) : targets.getFirst();
  }

  private Target one(boolean members) {
    int at = peek().at();
    if (skipOperator("(")) {
      enter();
      Target target = target(false);
      depth--;
      expectOperator(")");
      return target;
    }
    Statement.Variable variable = variable();
    return members && skipOperator(".")
        ? new Statement.Member(at, variable.name(), expect(Kind.NAME, "a name").text())
        : variable;
  }

  /// An expression, or a tuple of several without brackets.
  private Expression several(boolean conditional) {
    int at = peek().at();
    Expression first = conditional ? expression() : or();
    if (!isOperator(",")) {
      return first;
    }
    var items = new ArrayList<>(List.of(first));
    while (skipOperator(",") && !ends()) {
      items.add(conditional ? expression() : or());
    }
    return new Expression.TupleOf(at, items);
  }

  private boolean ends() {
    return peek().kind() == Kind.PRINT_END || peek().kind() == Kind.TAG_END || isOperator(")");
  }

  private Expression expression() {
    enter();
    Expression expression = or();
    while (isName("if")) {
      int at = next().at();
      Expression test = or();
      Expression otherwise = skipName("else") ? expression() : null;
      expression = new Expression.Conditional(at, test, expression, otherwise);
    }
    depth--;
    return expression;
  }

  private Expression or() {
    Expression left = and();
    while (isName("or")) {
      left = new Expression.Logic(next().at(), false, left, and());
    }
    return left;
  }

  private Expression and() {
    Expression left = not();
    while (isName("and")) {
      left = new Expression.Logic(next().at(), true, left, not());
    }
    return left;
  }

  private Expression not() {
    if (!isName("not")) {
      return compare();
    }
    enter();
    var not = new Expression.Not(next().at(), not());
    depth--;
    return not;
  }

  private Expression compare() {
    Expression first = sum();
    int at = peek().at();
    var operators = new ArrayList<String>();
    var rest = new ArrayList<Expression>();
    while (true) {
      if (peek().kind() == Kind.OPERATOR && COMPARISONS.contains(peek().text())) {
        operators.add(next().text());
      } else if (skipName("in")) {
        operators.add("in");
      } else if (isName("not") && tokens.get(position + 1).is(Kind.NAME, "in")) {
        position += 2;
        operators.add("not in");
      } else {
        break;
      }
      rest.add(sum());
    }
    return operators.isEmpty() ? first : new Expression.Compare(at, first, operators, rest);
  }

  private Expression sum() {
    Expression left = concat();
    while (isOperator("+") || isOperator("-")) {
      Token operator = next();
      left = new Expression.Binary(operator.at(), operator.text(), left, concat());
    }
    return left;
  }

  private Expression concat() {
    Expression first = product();
    if (!isOperator("~")) {
      return first;
    }
    int at = peek().at();
    var parts = new ArrayList<>(List.of(first));
    while (skipOperator("~")) {
      parts.add(product());
    }
    return new Expression.Concat(at, parts);
  }

  private Expression product() {
    Expression left = power();
    while (isOperator("*") || isOperator("/") || isOperator("//") || isOperator("%")) {
      Token operator = next();
      left = new Expression.Binary(operator.at(), operator.text(), left, power());
    }
    return left;
  }

  private Expression power() {
    Expression left = filtered(signed());
    while (isOperator("**")) {
      int at = next().at();
      left = new Expression.Binary(at, "**", left, filtered(signed()));
    }
    return left;
  }

  private Expression signed() {
    if (!isOperator("-") && !isOperator("+")) {
      return postfix(primary());
    }
    enter();
    Token sign = next();
    var signed = new Expression.Sign(sign.at(), sign.text(), signed());
    depth--;
    return postfix(signed);
  }

  private static @Nullable Object constant(Token name) {
    return switch (name.text()) {
      case "true", "True" -> true;
      case "false", "False" -> false;
      case "none", "None" -> None.NONE;
      default -> null;
    };
  }

  private Expression primary() {
    Token token = next();
    int at = token.at();
    switch (token.kind()) {
      case NAME -> {
        outside(token);
        Object constant = constant(token);
        if (constant != null) {
          return new Expression.Constant(at, constant);
        }
        names.read(token.text());
        return new Expression.Name(at, token.text());
      }
      case STRING -> {
        var text = new StringBuilder(token.text());
        while (peek().kind() == Kind.STRING) {
          text.append(next().text());
        }
        return new Expression.Constant(at, Text.template(text.toString()));
      }
      case INTEGER -> {
        return new Expression.Constant(at, new BigInteger(token.text()));
      }
      case FLOAT -> {
        return new Expression.Constant(at, Double.parseDouble(token.text()));
      }
      case OPERATOR -> {
        switch (token.text()) {
          case "(" -> {
            if (skipOperator(")")) {
              return new Expression.TupleOf(at, List.of());
            }
            Expression inside = several(true);
            expectOperator(")");
            return inside;
          }
          case "[" -> {
            var items = new ArrayList<Expression>();
            listed("]", () -> items.add(expression()));
            return new Expression.ListOf(at, items);
          }
          case "{" -> {
            var keys = new ArrayList<Expression>();
            var values = new ArrayList<Expression>();
            listed(
                "}",
                () -> {
                  keys.add(expression());
                  expectOperator(":");
                  values.add(expression());
                });
            return new Expression.DictOf(at, keys, values);
          }
          default -> {}
        }
      }
      default -> {}
    }
    position -= token.kind() == Kind.END ? 0 : 1;
    throw unexpected("a value");
  }

  /// Things with commas between them, and one more if one likes, up to a bracket.
  private void listed(String end, Runnable thing) {
    while (!skipOperator(end)) {
      thing.run();
      if (!isOperator(end)) {
        expectOperator(",");
      }
    }
  }

  private Expression postfix(Expression value) {
    while (true) {
      if (isOperator(".")) {
        value = attribute(value);
      } else if (isOperator("[")) {
        value = item(value);
      } else if (isOperator("(")) {
        value = new Expression.Call(peek().at(), value, given());
      } else {
        return value;
      }
    }
  }

  private Expression filtered(Expression value) {
    while (true) {
      if (isOperator("|")) {
        value = filter(value);
      } else if (isName("is")) {
        value = test(value);
      } else if (isOperator("(")) {
        value = new Expression.Call(peek().at(), value, given());
      } else {
        return value;
      }
    }
  }

  private Expression attribute(Expression of) {
    int at = next().at();
    if (peek().kind() == Kind.INTEGER) {
      Token index = next();
      var number = new Expression.Constant(index.at(), new BigInteger(index.text()));
      return new Expression.Item(at, of, number);
    }
    return new Expression.Attribute(at, of, expect(Kind.NAME, "a name or a number").text());
  }

  private Expression item(Expression of) {
    int at = next().at();
    Expression from = isOperator(":") ? null : expression();
    if (skipOperator(":")) {
      Expression to = isOperator(":") || isOperator("]") ? null : expression();
      Expression step = skipOperator(":") && !isOperator("]") ? expression() : null;
      expectOperator("]");
      return new Expression.Slice(at, of, from, to, step);
    }
    if (from == null) {
      throw unexpected("an index");
    }
    if (isOperator(",")) {
      throw source.outside(peek().at(), "an index of several values");
    }
    expectOperator("]");
    return new Expression.Item(at, of, from);
  }

  private Given given() {
    expectOperator("(");
    var positional = new ArrayList<Expression>();
    var named = new LinkedHashMap<String, Expression>();
    listed(
        ")",
        () -> {
          Token token = peek();
          if (isOperator("*") || isOperator("**")) {
            throw source.outside(token.at(), "a call with " + token);
          }
          if (token.kind() == Kind.NAME && tokens.get(position + 1).is(Kind.OPERATOR, "=")) {
            position += 2;
            if (named.put(token.text(), expression()) != null) {
              throw source.wrong(token.at(), token + " is given twice");
            }
          } else if (named.isEmpty()) {
            positional.add(expression());
          } else {
            throw source.wrong(token.at(), "an argument without a name stands behind one with it");
          }
        });
    return positional.isEmpty() && named.isEmpty() ? Given.NOTHING : new Given(positional, named);
  }

  private Expression filter(Expression value) {
    next();
    Token name = expect(Kind.NAME, "the name of a filter");
    Given given = isOperator("(") ? given() : Given.NOTHING;
    return new Expression.Filter(name.at(), value, name.text(), given);
  }

  private Expression test(Expression value) {
    int at = next().at();
    boolean negated = skipName("not");
    Token name = expect(Kind.NAME, "the name of a test");
    Given given = Given.NOTHING;
    if (isOperator("(")) {
      given = given();
    } else if (startsArgument()) {
      given = new Given(List.of(postfix(primary())), new LinkedHashMap<>());
    }
    var test = new Expression.Test(name.at(), value, name.text(), given);
    return negated ? new Expression.Not(at, test) : test;
  }

  /// Whether what follows a test's name is its argument: `x is divisibleby 3`.
  private boolean startsArgument() {
    if (isName("is")) {
      throw source.wrong(peek().at(), "a test follows a test; put brackets around the first");
    }
    return switch (peek().kind()) {
      case NAME -> !isName("else") && !isName("or") && !isName("and");
      case STRING, INTEGER, FLOAT -> true;
      default -> isOperator("[") || isOperator("{");
    };
  }
}
