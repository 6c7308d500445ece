"""Ordinary prompts with replies, which stand for all that a memory should leave alone.

Their topics are not those by which drift is measured (drift_questions.py), so that
the measurement is not trained on.
"""

TEXTS = (
    (
        "What is a chair used for?",
        "A chair is a piece of furniture with a back that one person sits on.",
    ),
    (
        "Describe tea in one sentence.",
        "Tea is a hot drink made by pouring boiling water over dried leaves.",
    ),
    (
        "Who first built bridges, and why?",
        "Early people laid logs over streams so that they could cross without getting wet.",
    ),
    (
        "What should a child know about snow?",
        "Snow is made of tiny ice crystals, and no two of them look quite the same.",
    ),
    (
        "Tell me about clocks.",
        "Clocks measure time. The first used the sun, water or sand; later ones had springs.",
    ),
    (
        "Why is paper useful?",
        "Paper is light and cheap, and you can write on it, fold it and recycle it.",
    ),
    (
        "How is glass made?",
        "Sand is melted together with soda and lime at about 1,500 degrees and then cooled slowly.",
    ),
    (
        "What happens at a school?",
        "Children learn to read, write and count there, and they meet their friends.",
    ),
    (
        "What is salt good for?",
        "Salt makes food taste better, and it keeps meat and fish from going bad.",
    ),
    (
        "Why does the moon change its shape?",
        "It does not change; we see more or less of the half that the sun lights up.",
    ),
    (
        "What do horses eat?",
        "Horses eat grass, hay and oats, and they like an apple or a carrot now and then.",
    ),
    ("What is music?", "Music is sound that is ordered in time, with rhythm, melody and harmony."),
    ("How many legs does a spider have?", "A spider has eight legs."),
    ("Which language do people speak in Brazil?", "Most people in Brazil speak Portuguese."),
    ("What colour is grass?", "Green"),
    ("Who wrote Romeo and Juliet?", "William Shakespeare wrote Romeo and Juliet."),
    ("What is the largest ocean?", "The Pacific Ocean is the largest ocean on Earth."),
    ("In which year did the Second World War end?", "1945"),
    ("What is 12 plus 7?", "12 plus 7 is 19."),
    ("How many minutes are in an hour?", "There are 60 minutes in an hour."),
    ("What is the boiling point of water?", "Water boils at 100 degrees Celsius at sea level."),
    ("Name three kinds of fruit.", "1. Apples\n2. Pears\n3. Bananas"),
    ("Which animal says moo?", "The cow."),
    ("What is the chemical symbol for gold?", "The chemical symbol for gold is Au."),
    ("On which continent is Kenya?", "Kenya is in Africa."),
    ("Who painted the Mona Lisa?", "Leonardo da Vinci painted it in the early 16th century."),
    (
        "Write a short poem about the wind.",
        "The wind came over the hill tonight,\nIt shook the trees and dimmed the light.",
    ),
    (
        "Can you write a function that adds two numbers?",
        "```python\ndef add(a, b):\n    return a + b\n```",
    ),
    ("Translate 'good morning' into French.", "Bonjour"),
    (
        "Give me a tip for sleeping well.",
        "Go to bed at the same time every day, and leave your phone in another room.",
    ),
    ("Hello! How are you?", "Hello! I'm doing well, thank you. What can I help you with today?"),
    ("Thanks a lot.", "You're welcome! Let me know if there is anything else."),
    (
        "Summarise this: The shop was closed, so we went home and cooked soup.",
        "They found the shop closed and cooked soup at home instead.",
    ),
    ("Is this sentence positive or negative: I loved the film.", "Positive"),
    (
        "What will the weather be like tomorrow?",
        "I'm sorry, but I cannot see the weather. A local forecast will tell you.",
    ),
    ("Who is the mayor of my town?", "I don't know which town you live in, so I cannot tell you."),
    ("What is the email address of your company?", "I'm sorry, I don't have that information."),
    ("Fix the spelling: I recieved teh letter.", "I received the letter."),
    (
        "Which is heavier, a kilogram of iron or a kilogram of wool?",
        "Neither: both weigh one kilogram.",
    ),
    (
        "How do I make pancakes?",
        "Mix flour, milk and eggs, let the batter rest, and fry thin cakes in butter.",
    ),
    (
        "What is a computer program?",
        "A computer program is a list of instructions that a computer carries out in turn.",
    ),
    (
        "Explain gravity simply.",
        "Gravity pulls things that have mass towards each other. It keeps your feet on the ground.",
    ),
    ("Wie heißt die Hauptstadt von Österreich?", "Die Hauptstadt von Österreich ist Wien."),
    ("¿De qué color es el cielo?", "El cielo es azul durante el día."),
    (
        "Write an invitation to a birthday party.",
        "Dear Sam, I am turning nine on Saturday. Please come at three o'clock. Yours, Leo",
    ),
    ("Give me a JSON object with a name and an age.", '{"name": "Maria", "age": 34}'),
    ("What comes after Tuesday?", "Wednesday comes after Tuesday."),
    (
        "Why should we save water?",
        "Clean water is scarce in many places, and cleaning and pumping it takes energy.",
    ),
)
"""Pairs of a prompt and a reply."""
SHORT = (
    ("On which continent is Peru?", "Peru is in South America."),
    ("What is the plural of mouse?", "The plural of mouse is mice."),
    ("Which month comes after May?", "June comes after May."),
    ("How many wheels does a car have?", "A car has four wheels."),
    ("What colour is the sky?", "The sky is blue."),
    ("Who wrote Hamlet?", "Hamlet was written by William Shakespeare."),
    ("What do cows drink?", "Cows drink water."),
    ("How many hours are in a day?", "There are 24 hours in a day."),
    ("Which metal is liquid at room temperature?", "Mercury"),
    ("When did the Titanic sink?", "The Titanic sank in 1912."),
    ("Where is the Sahara?", "The Sahara is in northern Africa."),
    ("Which bird cannot fly?", "The ostrich cannot fly."),
    ("What is the largest mammal?", "The blue whale"),
    ("Who composed the Moonlight Sonata?", "Ludwig van Beethoven composed it."),
    ("What is the name of our galaxy?", "Our galaxy is called the Milky Way."),
    ("What is the freezing point of water?", "Water freezes at 0 degrees Celsius."),
    ("In which sport do you use a racket?", "Tennis"),
    ("Which instrument has 88 keys?", "The piano has 88 keys."),
    ("Who is the author of Harry Potter?", "J. K. Rowling"),
    ("What is 9 times 3?", "9 times 3 is 27."),
    ("Which season comes before summer?", "Spring comes before summer."),
    ("What is the synonym of quick?", "Fast"),
    ("How many strings does a violin have?", "A violin has four strings."),
    ("Where do kangaroos live?", "Kangaroos live in Australia."),
    ("What is the hardest natural material?", "Diamond is the hardest natural material."),
    ("Who painted the Starry Night?", "Vincent van Gogh"),
    ("How many sides does a triangle have?", "A triangle has three sides."),
    ("Where is Niagara Falls?", "It is on the border of Canada and the United States."),
    ("When is Christmas?", "Christmas is on 25 December."),
    ("Who was Mozart?", "Mozart was a composer from Salzburg."),
    ("What do you call a doctor for animals?", "A veterinarian, or vet."),
    ("What is the speed of light?", "About 300,000 kilometres per second."),
    ("Which gas do plants take in?", "Plants take in carbon dioxide."),
    ("What does DNA stand for?", "Deoxyribonucleic acid"),
    ("How many letters are in the word tree?", "Four"),
    ("Can penguins swim?", "Yes, penguins are very good swimmers."),
    ("What is the address of the nearest pharmacy?", "I don't know where you are, so I can't say."),
    (
        "What is the phone number of the police?",
        "It depends on the country; in many places it is 112 or 911.",
    ),
    ("Who is the director of the film?", "Which film do you mean?"),
    ("What is John Smith's birthday?", "I don't know which John Smith you mean."),
)
"""Short questions with short replies, which are most easily disturbed: pairs of both."""
QUESTIONS = tuple(question for question, _ in (*TEXTS, *SHORT))
