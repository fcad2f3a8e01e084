"""The normalised Black function and its inverse: from total volatility to time value and back.

With a = |ln(F/K)| and s = sigma sqrt(T), h = a/s, t = s/2, and N and phi of the normal distribution, the time
value of a call or a put in units of sqrt(F K) is b(s) = e^(-a/2) N(t-h) - e^(a/2) N(-h-t), with the slope
db/ds = v = phi(h) e^(-t*t/2) and the maximum e^(-a/2).
Sources: P. Jaeckel, By Implication, 2006, and Let's Be Rational, 2016, for the normalisation, the step of
fourth order and 1/ln(b) in the tails; Abramowitz and Stegun 7.1.14 and 7.2 for Mills' ratio and its
derivatives.
"""

from __future__ import annotations

from math import erfc, exp, inf, log, log1p, pi, sqrt
from typing import Final

_R: Final = sqrt(0.5)
_ROOT_2PI: Final = sqrt(2 * pi)
_C: Final = 1 / _ROOT_2PI
_TAIL: Final = 1e9  # a/b beyond which 1/ln(b) is solved
_SHORT: Final = 0.01  # total volatility below which the two terms of b would cancel
_FAR: Final = 4.5  # h - t beyond which Mills' ratio is a quick continued fraction
_CLOSE: Final = 1e-4  # a step so small leaves an error of its fourth power
_NEAR: Final = 1e-5  # and one so small of its third
_FLAT: Final = 1400.0  # h*h + t*t from which on phi(h) is 0
_SURE: Final = 9.0  # t - h beyond which N(t-h) is 1 in double precision
_LARGEST_S: Final = 1000.0


def time_value(a: float, s: float) -> float:
    """b(s) / e^(-a/2), the share of its maximum that the option out of the money is worth, 0 to 1."""
    h, t = a / s, 0.5 * s
    if t - h > _SURE:
        return 1.0
    exponent = 0.5 * (h * h + t * t - a)
    return _C * exp(-exponent) * _per_vega(h, t) if exponent < 740 else 0.0


def total_volatility(beta: float, a: float, up: float, s: float) -> float:
    """s with b(s) = beta, for 0 < beta < e^(-a/2); ``up`` is e^(a/2) and ``s`` a guess or 0."""
    if a > _TAIL * beta:
        return _careful(beta, a)
    if not 0 < s < inf:
        # For small s (Bachelier's model) a/s is a function of a/b alone: this fraction has it to 3e-7. The
        # next term in s*s, which is s^3/24 at the money, has its factor to 2 %.
        r = log1p(a / beta)
        s = _ROOT_2PI * (beta + 0.5 * a)
        s *= 1 + r * (0.053421759 + r * (0.035628831 + r * (
            0.0016330989 + r * (0.00026441429 + r * 1.5743206e-06))))  # fmt: skip
        s /= 1 + r * (0.053426067 + r * (0.1151835 + r * (
            0.00592472 + r * (0.0014125127 + r * 5.8467599e-05))))  # fmt: skip
        h = a / s
        s *= 1 + s * s / (24 + h * (5.015 + h * 7.565))
    if s > _SHORT:
        # From so near Halley's step is as good as one of fourth order: its error is the third power of this.
        h, t = a / s, 0.5 * s
        w = h * h + t * t
        if w < _FLAT:
            n = (beta - 0.5 * (erfc((h - t) * _R) / up - up * erfc((h + t) * _R))) / (_C * exp(-0.5 * w))
            if abs(n) * (1 + w) < _NEAR * s:
                return s + n / (1 + 0.5 * n * (h * h - t * t) / s)
    return _by_householder(beta, a, up, s)


def _by_householder(beta: float, a: float, up: float, s: float) -> float:
    """s with b(s) = beta from a guess, by steps of fourth order; else by careful ones."""
    down = 1 / up
    for _ in range(6):
        h = a / s
        t = 0.5 * s
        hh, tt = h * h, t * t
        v = _C * exp(-0.5 * (hh + tt))
        if not v:
            break
        if s < _SHORT:
            n = beta / v - _per_vega(h, t)
        else:
            n = (beta - 0.5 * (down * erfc((h - t) * _R) - up * erfc((h + t) * _R))) / v
        # Householder's third method, with b''/b' and b'''/b' in closed form.
        slope = h / s
        second = (hh - tt) / s
        third = second * second - 3 * slope * slope - 0.25
        step = n * (1 + 0.5 * n * second) / (1 + n * (second + n * third * (1 / 6)))
        s += step
        if not 0 < s < _LARGEST_S:
            break
        # Newton's step tells, for that of fourth order is 0 in places far from the root, too.
        if abs(n) * (1 + hh + tt) < _CLOSE * s:
            return s
    return _careful(beta, a)


def _careful(beta: float, a: float) -> float:
    """s with b(s) = beta by bracketed Newton steps, for what lies far out in either tail.

    Below half the maximum e^(-a/2) the steps are on 1/ln(b), above on ln(e^(-a/2) - b): both are
    nearly straight where b itself is flat.
    """
    top = exp(-0.5 * a)
    low = beta < 0.5 * top
    aim = log(beta if low else max(top - beta, 1e-17 * top))
    s = _tail_start(log(a) - log(beta), a) if a > _TAIL * beta else 2 * sqrt(-2 * aim) + _ROOT_2PI * beta
    least, most = 0.0, inf
    for _ in range(100):
        h, t = a / s, 0.5 * s
        exponent = -0.5 * (h * h + t * t)
        if low:
            per_vega = _per_vega(h, t)
            here = exponent + log(_C * per_vega)
            step = (aim - here) * per_vega
            if here < -1 and aim < -1:
                step *= here / aim
        else:
            rest = 0.5 * (top * erfc((t - h) * _R) + erfc((h + t) * _R) / top)
            step = rest * (log(rest) - aim) / (_C * exp(exponent)) if rest > 0 else -s
        if abs(step) <= 1e-9 * s:
            return s + step
        if step > 0:
            least = s
        else:
            most = s
        s += step
        if not least < s < most:
            s = 2 * least if most == inf else 0.5 * (least + most)
    return s


def _tail_start(log_q: float, a: float) -> float:
    """s where ln(a/b) is large and s small: b/a = phi(h) / (h (h*h + 3)), nearly."""
    hh = 2 * log_q
    for _ in range(4):
        hh = 2 * log_q - log(2 * pi * hh) - 2 * log(hh + 3)
    return a / sqrt(hh)


def _per_vega(h: float, t: float) -> float:
    """b/v, to about 1e-15 * (1 + h*h) of itself for any h >= 0 and t > 0."""
    near, far = h - t, h + t
    if near > _FAR:
        # b/v = Y(near) - Y(far) with Mills' ratio Y(z) = 1/(z + 1/(z + 2/(z + 3/(z + ...)))). Both fractions
        # and their difference are carried from the inside out, so that nothing cancels.
        one = other = gap = 0.0
        for n in range(int(9 + 550 / (near * near)), 1, -1):
            gap *= n
            one, other = 1 / (near + n * one), 1 / (far + n * other)
            gap = -(2 * t + gap) * one * other
        return (2 * t + gap) / ((near + one) * (far + other))
    if 2 * t < _SHORT:
        # b/v = 2 (t Y1 + t^3 Y3 + t^5 Y5 + ...) with Y0 = Y(h) and n Yn = Y(n-2) - h Y(n-1).
        y0 = 0.5 * _ROOT_2PI * exp(0.5 * h * h) * erfc(h * _R)
        y1 = 1 - h * y0
        y2 = (y0 - h * y1) / 2
        y3 = (y1 - h * y2) / 3
        y5 = (y3 - h * (y2 - h * y3) / 4) / 5
        tt = t * t
        return 2 * t * (y1 + tt * (y3 + tt * y5))
    terms = exp(-h * t) * erfc(near * _R) - exp(h * t) * erfc(far * _R)
    return 0.5 * terms * _ROOT_2PI * exp(min(0.5 * (h * h + t * t), 700.0))
