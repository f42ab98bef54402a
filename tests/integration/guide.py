# SPDX-License-Identifier: PostgreSQL
"""The guide is true: its commands print what it says, and every setting, message, error and field that it names is there.

Run by guide.sh, in an environment with a private PostgreSQL. "..." in an output stands for anything.
"""
import glob
import os
import re
import subprocess
import sys
import tempfile

SOURCE = os.environ['PGLEASE_SRCDIR']
tests = 0


def is_true(name, good, why=''):
    global tests
    tests += 1
    print(f"{'ok' if good else 'not ok'} {tests} - {name}", flush=True)
    if not good:
        for line in str(why).splitlines():
            print(f'# {line}')


def page(name):
    with open(f'{SOURCE}/doc/{name}', encoding='utf-8') as f:
        return f.read()


def blocks(text, kind):
    return re.findall(rf'^```{kind}\n(.*?)^```', text, re.M | re.S)


def pattern(text):
    """A line as it is printed, whatever the width of its columns."""
    words = ' '.join(text.split())
    return re.compile('.*'.join(re.escape(part) for part in words.split('...')) + r'\Z')


def run_block(block, folder, environment, instance):
    for step in re.split(r'^\$ ', block, flags=re.M)[1:]:
        command, _, expected = step.partition('\n')
        if command.startswith('export '):
            environment.update((name, value.replace('shop', instance)) for name, value in re.findall(r'(\w+)=(\S+)', command))
            continue
        if os.geteuid() != 0:
            command = re.sub(r'^unshare ', 'unshare --user --map-current-user ', command)
        run = subprocess.run(['bash', '-c', command], cwd=folder, env=environment, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False)
        # Whether a command has to wait depends on the moment.
        got = [' '.join(line.split()) for line in run.stdout.splitlines() if ': waiting for ' not in line]
        wanted = [line.replace('shop', instance) for line in expected.splitlines()]
        good = len(got) == len(wanted) and all(pattern(w).match(g) for w, g in zip(wanted, got))
        is_true(f'$ {command}', good and run.returncode == 0, f'status {run.returncode}\n{run.stdout}')


def check_commands():
    text = page('guide.md')
    instance = f'shop-{os.getpid()}'
    with tempfile.TemporaryDirectory(prefix='pglease-guide-') as folder:
        os.chmod(folder, 0o755)
        config = blocks(text, 'ini')[0].replace('instance = shop', f'instance = {instance}\nsocket_dir = {folder}/run\n'
                                                f'data_dir = {folder}/data')
        # The private server is elsewhere; who logs in, and where, is the guide's.
        for sql in ('create role app login', 'create database app owner app'):
            subprocess.run(['psql', '-qc', sql], check=True)
        config = config.replace('host=/var/run/postgresql', f"host={os.environ['PGHOST']} port={os.environ.get('PGPORT', '5432')}")
        with open(f'{folder}/pgleased.ini', 'w', encoding='utf-8') as f:
            f.write(config)
        environment = dict(os.environ, PGLEASE_SOCKET_DIR=f'{folder}/run')
        for name in ('PGLEASE_INSTANCE', 'PGUSER', 'PGDATABASE'): # the guide says what they are
            environment.pop(name, None)
        try:
            for block in blocks(text, 'console'):
                run_block(block, folder, environment, instance)
        finally:
            subprocess.run(['pgleasectl', '-t', '0', 'stop'], env=environment, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, check=False)


def words_that_exist():
    """Settings, verbs, options and environment variables."""
    known = set(re.findall(r'^  ([a-z_]+) = ', subprocess.check_output(['pgleased', '--help-config'], text=True), re.M))
    known |= set(re.findall(r'^  ([a-z-]+) ', subprocess.check_output(['pgleasectl', '--help'], text=True), re.M))
    return known


def check_migrating():
    known = words_that_exist()
    # Of libpq, PostgreSQL, or values of ours.
    known |= {'conninfo', 'never', 'always', 'sslmode', 'pglease_acquire', 'pglease_release', 'light', 'sql', 'handover'}
    for line in page('migrating.md').splitlines():
        cells = line.split('|')
        if len(cells) != 4 or not cells[2].strip() or set(cells[2]) <= set('- '):
            continue
        for code in re.findall(r'`([^`]*)`', cells[2]):
            code = re.sub(r'^\[pool app\]$|^pgleasectl |^pglease-run.*|^pgleasestat.*|config(/app)?$', '', code)
            for word in re.findall(r'[a-z][a-z_-]{2,}', code.split('=')[0]):
                if 'create_engine' in code or code.startswith(('CONN_', 'pool:', 'idle_timeout: 1', 'pg_', 'connect_cached')):
                    continue
                is_true(f'{word} exists', word in known, line)


def check_troubleshooting():
    text = page('troubleshooting.md')
    source = ''
    for path in glob.glob(f'{SOURCE}/src/**/*.[ch]', recursive=True):
        with open(path, encoding='utf-8') as f:
            # A string literal may go on in the next line.
            source += re.sub(r'"\s*\\?\n\s*"', '', f.read())
    for message in re.findall(r'^### `(.*)`$', text, re.M):
        # The log itself writes the pool and the slot before a text, and a colon behind them.
        parts = [part.strip(' ":') for part in message.split('...')]
        missing = [part for part in parts if len(part) > 3 and part not in source]
        is_true(message, not missing, missing)
    with open(f'{SOURCE}/src/shm/pglease_errors.h', encoding='utf-8') as f:
        for name in re.findall(r'^\tX\((E[A-Z]+),', f.read(), re.M):
            is_true(f'PGLEASE_{name} is explained', f'PGLEASE_{name}' in text)


def fields_of(name, source):
    body = re.search(rf'^struct {name} \{{\n(.*?)^\}};', source, re.M | re.S).group(1)
    body = re.sub(r'/\*.*?\*/|\[[^]]*\]', '', body, flags=re.S)
    return [re.search(r'(\w+)\s*\Z', part).group(1) for declaration in body.split(';') for part in declaration.split(',')
            if part.strip()]


def check_segments():
    """Each structure's fields, as the compiler lays them out."""
    folder = f'{SOURCE}/src/shm'
    source = ''
    for name in ('layout.h', 'stats.h', 'histogram.h'):
        with open(f'{folder}/{name}', encoding='utf-8') as f:
            source += f.read()
    sections = re.findall(r'^### [^\n]*: struct (\w+), ([\d,]+) bytes\n(.*?)(?=^##|\Z)', page('segments.md'), re.M | re.S)
    program = '#include <stdio.h>\n#include "layout.h"\n#include "stats.h"\nint main(void) {\n'
    said = {}
    for name, size, text in sections:
        rows = re.findall(r'^\| (\d+) \| (\d+) \| (\w+) \|', text, re.M)
        is_true(f'all fields of struct {name}', [row[2] for row in rows] == fields_of(name, source), fields_of(name, source))
        said[name] = [f"struct {name} {size.replace(',', '')}"]
        program += f'printf("struct {name} %zu\\n", sizeof(struct {name}));\n'
        for offset, length, field in rows:
            said[name].append(f'{name}.{field} {offset} {length}')
            program += (f'printf("{name}.{field} %zu %zu\\n", offsetof(struct {name}, {field}), '
                        f'sizeof(((struct {name} *)0)->{field}));\n')
    with tempfile.TemporaryDirectory(prefix='pglease-guide-') as out:
        subprocess.run(['cc', f'-I{folder}', '-x', 'c', '-', '-o', f'{out}/fields'], input=program + 'return 0; }\n', text=True,
                       check=True)
        layout = subprocess.check_output([f'{out}/fields'], text=True).splitlines()
    for name, lines in said.items():
        wrong = [line for line in lines if line not in layout]
        is_true(f'struct {name} is laid out so', not wrong, f'{wrong}, but: {layout}')
    is_true('of all structures', len(said) >= 12)


check_commands()
check_segments()
check_migrating()
check_troubleshooting()
print(f'1..{tests}')
sys.exit(0)
