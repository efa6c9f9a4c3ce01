"""A Django project in one file, run by `test_django.py` in a process of its own: `python django_project.py TASK`.

Its settings are those of `django-admin startproject` but for the database, which comes from the variables PORT and
OPTIONS (JSON)."""

import json
import os
import sys
import threading

import django
from django.apps import AppConfig
from django.conf import settings

if __name__ == "__main__":
    # Django knows its applications by their modules' names.
    sys.modules["django_project"] = sys.modules["__main__"]


class Library(AppConfig):
    name = "django_project"
    label = "library"
    path = os.path.dirname(__file__)
    default_auto_field = "django.db.models.BigAutoField"


if not settings.configured:
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions",
                        "django_project.Library"],
        DATABASES={"default": {
            "ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": os.environ["PORT"], "USER": "app",
            "NAME": "app", **json.loads(os.environ.get("OPTIONS", "{}"))}},
        USE_TZ=True, TIME_ZONE="Europe/Berlin", SESSION_ENGINE="django.contrib.sessions.backends.db",
        SECRET_KEY="for a test")
    django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import IntegrityError, close_old_connections, connection, models, transaction  # noqa: E402


class Author(models.Model):
    name = models.CharField(max_length=100, unique=True)
    born = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "library"


class Book(models.Model):
    title = models.CharField(max_length=100)
    facts = models.JSONField(default=dict)
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")

    class Meta:
        app_label = "library"


def make_tables() -> None:
    """Migrations of Django's own applications, and the tables of this one."""
    call_command("migrate", run_syncdb=True, verbosity=0)
    with connection.schema_editor() as editor:
        present = connection.introspection.table_names()
        for model in (Author, Book):
            if model._meta.db_table not in present:
                editor.create_model(model)


def orm() -> None:
    make_tables()
    with transaction.atomic():
        authors = Author.objects.bulk_create([Author(name=f"author {n}") for n in range(50)])
        Book.objects.bulk_create([Book(title=f"{a.name}: {n}", author=a, facts={"pages": n})
                                  for a in authors for n in range(4)], batch_size=30)
    assert Book.objects.filter(facts__pages__gte=2).count() == 100
    assert len(list(Author.objects.prefetch_related("books"))) == 50
    assert Book.objects.select_related("author").get(title="author 7: 3").author.name == "author 7"
    assert Author.objects.annotate(n=models.Count("books")).filter(n=4).count() == 50
    assert Book.objects.filter(facts__pages=0).update(title="first") == 50
    Author.objects.update_or_create(name="author 1", defaults={"name": "renamed"})
    assert Author.objects.filter(name="author 9").delete()[0] == 5


def transactions() -> None:
    make_tables()
    try:
        with transaction.atomic():
            Author.objects.create(name="outer")
            try:
                with transaction.atomic():
                    Author.objects.create(name="inner")
                    Author.objects.create(name="outer")
            except IntegrityError:
                Author.objects.create(name="after the savepoint")
            with transaction.atomic():
                assert Author.objects.select_for_update(skip_locked=True).count() == 2
        with transaction.atomic():
            Author.objects.create(name="lost")
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert sorted(Author.objects.values_list("name", flat=True)) == ["after the savepoint", "outer"]


def streams() -> None:
    """`iterator()` takes a cursor WITH HOLD outside of a transaction, unless DISABLE_SERVER_SIDE_CURSORS is set."""
    make_tables()
    Author.objects.bulk_create([Author(name=str(n)) for n in range(5000)])
    assert sum(1 for _ in Author.objects.iterator(chunk_size=500)) == 5000
    with transaction.atomic():
        assert sum(1 for _ in Author.objects.iterator(chunk_size=500)) == 5000


def logins() -> None:
    """Users and sessions, as every site has them."""
    make_tables()
    user = get_user_model().objects.create_user("ann", password="for a test")
    assert user.check_password("for a test")
    store = SessionStore()
    store["who"] = user.pk
    store.save()
    assert SessionStore(session_key=store.session_key)["who"] == user.pk


def threads() -> None:
    """20 threads, a request each after the other."""
    make_tables()
    problems: list[Exception] = []

    def work(number: int) -> None:
        try:
            for request in range(5):
                close_old_connections()
                with transaction.atomic():
                    author = Author.objects.create(name=f"{number}.{request}")
                    Book.objects.create(title="x", author=author)
                close_old_connections()
        except Exception as error:  # noqa: BLE001
            problems.append(error)
        finally:
            connection.close()

    workers = [threading.Thread(target=work, args=[number]) for number in range(20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not problems, problems
    assert Book.objects.count() == Author.objects.count() == 100


if __name__ == "__main__":
    {"orm": orm, "transactions": transactions, "streams": streams, "logins": logins, "threads": threads}[sys.argv[1]]()
